"""Both of Makini's paging styles over any sequence."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from starlette.requests import Request

from .answers import Refused, world_of

DEFAULT_PAGE = 100
T = TypeVar("T")


def page_of(
    request: Request,
    everything: Sequence[T],
    show: Callable[[Sequence[T]], list[Any]],
    *,
    fault: str,
    overlap: int = 0,
    most: int | None = None,
) -> dict[str, Any]:
    """The page that `request` asks for.

    `page` with `per_page` or `pageSize` gives `data`, `links`, `meta`; `cursor` or `limit` gives
    `data`, `next_cursor`. Fault `repeat`: the first page for ever; `short`: the second half of
    the pages is missing without a word. Each page begins with the last `overlap` of the one
    before, and `most` records are listed at all; what the total says stays.

    Raises:
        Refused: 400 for a page, size or cursor that is none.
    """
    world = world_of(request)
    query = request.query_params
    style = world.faults.paging or ("cursor" if {"cursor", "limit"} & query.keys() else "page")
    size = _number(query.get("per_page") or query.get("pageSize") or query.get("limit"), "size")
    size = min(size or DEFAULT_PAGE, world.settings.page_limit)
    if fault == "short":
        everything = everything[: max(size, len(everything) // 2)]
    if style == "cursor":
        start = _offset(query.get("cursor"))
        rows = everything[:size] if fault == "repeat" else everything[start : start + size]
        has_more = fault == "repeat" or start + size < len(everything)
        return {
            "data": show(rows),
            "next_cursor": _cursor(start + len(rows)) if has_more else None,
        }
    page = _number(query.get("page"), "page") or 1
    total = len(everything)
    everything = everything[:most]
    last = max(1, -(-len(everything) // size))
    start = 0 if fault == "repeat" else (page - 1) * (size - min(overlap, size))
    rows = everything[start : start + size]
    if fault == "repeat":
        last = page + 1
    path = str(request.url.replace(query=""))
    return {
        "data": show(rows),
        "links": {
            "first": f"{path}?page=1",
            "last": f"{path}?page={last}",
            "prev": f"{path}?page={page - 1}" if page > 1 else None,
            "next": f"{path}?page={page + 1}" if page < last else None,
        },
        "meta": {
            "current_page": page,
            "from": start + 1 if rows else None,
            "last_page": last,
            "path": path,
            "per_page": size,
            "to": start + len(rows) if rows else None,
            "total": total,
        },
    }


def _number(text: str | None, what: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise Refused(400, "INVALID_REQUEST", f"The {what} {text[:40]!r} is not a number above 0.")
    return int(text)


def _cursor(offset: int) -> str:
    return base64.urlsafe_b64encode(f"after:{offset}".encode()).decode().rstrip("=")


def _offset(cursor: str | None) -> int:
    if not cursor:
        return 0
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        return int(text.removeprefix("after:"))
    except ValueError:
        raise Refused(400, "INVALID_CURSOR", "The cursor is not one of ours.") from None
