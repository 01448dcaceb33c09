"""A Makini that differs from its contract: a quirk for each question an operator may ask of it.

Quirks are laid over the answers and the questions on their way, so the sandbox behind stays whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl, urlencode

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Quirk = Literal[
    "relative-expiry",
    "no-app-routes",
    "page-ignored",
    "per-page-ignored",
    "no-total",
    "total-too-high",
    "links-whole",
    "fields-renamed",
    "status-renamed",
    "times-coarse",
    "errors-bare",
    "unknown-is-400",
    "limit-stated",
    "sync-renamed",
    "keys-numbers",
    "no-updated-at",
    "filter-ignored",
    "sort-ignored",
    "no-single-record",
]
QUIRKS: tuple[str, ...] = get_args(Quirk)
_DROPPED = {
    "page-ignored": ("page", "cursor"),
    "per-page-ignored": ("per_page", "limit"),
    "filter-ignored": ("filter[", "modified_after"),
    "sort-ignored": ("sort[",),
}


async def answer_oddly(
    app: ASGIApp, quirks: frozenset[str], scope: Scope, receive: Receive, send: Send
) -> None:
    """Have `app` answer, with the question and the answer bent by `quirks`."""
    path: str = scope["path"]
    scope = {**scope, "query_string": _asked(scope["query_string"].decode(), quirks).encode()}
    parts: list[bytes] = []
    start: Message = {}

    async def collect(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
            return
        parts.append(message.get("body", b""))
        if message.get("more_body"):
            return
        status, body = bend(path, start["status"], b"".join(parts), quirks)
        headers = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        if "limit-stated" in quirks:
            headers.append((b"x-ratelimit-limit", b"300"))
        await send({**start, "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    await app(scope, receive, collect)


def bend(path: str, status: int, body: bytes, quirks: frozenset[str]) -> tuple[int, bytes]:
    """The status and the body of an answer as a Makini with these quirks gives them."""
    if "no-app-routes" in quirks and path in {"/api/system/client", "/api/system/platforms"}:
        status, body = 403, b'{"code":"FORBIDDEN","message":"Not for this client."}'
    area = path.split("/")[2:3]
    if "no-single-record" in quirks and area in (["eam"], ["erp"]) and path.count("/") > 3:
        status, body = 404, b'{"code":"NOT_FOUND","message":"There is no such route."}'
    if "unknown-is-400" in quirks and status == 404:
        status = 400
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return status, body
    if not isinstance(value, dict):
        return status, body
    if status >= 400 and "errors-bare" in quirks:
        value = {"message": value.get("message", "")}
    for entry in _entries(value):
        for quirk, change in _ENTRY.items():
            if quirk in quirks:
                change(entry)
    if "relative-expiry" in quirks and "expires_in" in value:
        value["expires_in"] = 3600
    _bend_paging(value, quirks)
    return status, orjson.dumps(value)


def _bend_paging(value: dict[str, Any], quirks: frozenset[str]) -> None:
    meta, links = value.get("meta"), value.get("links")
    if isinstance(meta, dict) and "no-total" in quirks:
        meta.pop("total", None)
    if isinstance(meta, dict) and "total-too-high" in quirks:
        meta["total"] += 1
    if isinstance(links, dict) and "links-whole" in quirks:
        value["links"] = {k: f"{link}&per_page=2" if link else link for k, link in links.items()}


def _asked(query: str, quirks: frozenset[str]) -> str:
    dropped = tuple(name for quirk in quirks for name in _DROPPED.get(quirk, ()))
    pairs = parse_qsl(query, keep_blank_values=True)
    kept = [
        (name, text)
        for name, text in pairs
        if not any(
            name == prefix or (prefix.endswith("[") and name.startswith(prefix))
            for prefix in dropped
        )
    ]
    return urlencode(kept)


def _entries(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    data = value.get("data")
    for entry in data if isinstance(data, list) else [data]:
        if isinstance(entry, dict):
            yield entry


def _rename_field(entry: dict[str, Any]) -> None:
    if "integration_name" in entry:
        entry["integrationName"] = entry.pop("integration_name")


def _rename_status(entry: dict[str, Any]) -> None:
    if "integration_name" in entry or "integrationName" in entry:
        entry["status"] = "Connected"


def _rename_sync(entry: dict[str, Any]) -> None:
    if "sync_status" in entry:
        entry["sync_status"] = "completed"


def _coarsen(entry: dict[str, Any]) -> None:
    for name in ("updated_at", "updatedAt"):
        if isinstance(entry.get(name), str):
            entry[name] = f"{entry[name][:10]}T00:00:00Z"


def _number_key(entry: dict[str, Any]) -> None:
    if "createdAt" in entry or "siteKey" in entry or "updatedAt" in entry:
        entry["key"] = 4711


_ENTRY: dict[str, Callable[[dict[str, Any]], None]] = {
    "fields-renamed": _rename_field,
    "status-renamed": _rename_status,
    "sync-renamed": _rename_sync,
    "times-coarse": _coarsen,
    "keys-numbers": _number_key,
    "no-updated-at": lambda entry: entry.pop("updatedAt", None),
}
