"""`POST /api/connections/{connection}/mode`: observe or manage one connection, for scripts."""

from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from linekeeper.access.issue import NoSuchConnection, find_by_id_or_key
from linekeeper.access.mode_preview import ModePreviewAnswer
from linekeeper.access.modes import (
    BadRule,
    StillRenewed,
    WantedMode,
    change,
    find_subjects,
    preview_change,
    standing_of,
)
from linekeeper.answers import Answer
from linekeeper.clock import utcnow
from linekeeper.config.app import Mode
from linekeeper.customers.find import NotFound
from linekeeper.receiver.connection_route import ConnectionRoute
from linekeeper.receiver.gate import read_body
from linekeeper.receiver.keys import require_key, runtime_of
from linekeeper.runtime import UnknownApp

_MOST_BYTES = 16_384
_FLAGS = ("clear", "dry_run", "stop_renewing")


class ModeAnswer(Answer):
    """What a change of mode comes to; in a dry run `mode` and the rest are as they are now."""

    connection: str
    dry_run: bool
    mode: Mode
    mode_by: str
    notify_customers: bool
    notify_by: str
    comes_to: ModePreviewAnswer
    lines: list[str]


async def set_mode(request: Request) -> Response:
    """Set or clear the connection's own rule, or with `dry_run` only say what that would do."""
    holder = await require_key(request, "mode:write")
    rt = runtime_of(request)
    asked = _asked(await read_body(request, _MOST_BYTES))
    dry_run, now = bool(asked.get("dry_run")), utcnow()
    try:
        async with rt.store.read() as session:
            named = await find_by_id_or_key(session, request.path_params["connection"])
        wanted = WantedMode(
            await find_subjects(rt, connections=[named.id]),
            asked.get("mode"),
            asked.get("notify_customers"),
            clears=bool(asked.get("clear")),
        )
        if dry_run:
            seen = await preview_change(rt, wanted, now=now)
        else:
            stop = bool(asked.get("stop_renewing"))
            seen = await change(rt, wanted, by=holder.by, now=now, stop_renewing=stop)
        stands = await standing_of(rt, named.id)
    except (NoSuchConnection, NotFound) as error:
        raise HTTPException(404, str(error)) from None
    except (StillRenewed, UnknownApp) as error:
        raise HTTPException(409, str(error)) from None
    except BadRule as error:
        raise HTTPException(422, str(error)) from None
    answer = ModeAnswer(
        connection=named.id,
        dry_run=dry_run,
        mode=stands.mode,
        mode_by=stands.mode_by,
        notify_customers=stands.notify_customers,
        notify_by=stands.notify_by,
        comes_to=seen.answer(),
        lines=seen.lines(done=not dry_run),
    )
    return Response(
        answer.encoded(), media_type="application/json", headers={"Cache-Control": "no-store"}
    )


def _asked(body: bytes) -> dict[str, Any]:
    """What is asked for. Raises `HTTPException` 422 with what is wrong."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise HTTPException(422, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise HTTPException(422, "send an object such as {“mode”: “manage”, “dry_run”: true}")
    if value.get("mode") not in ("observe", "manage", None):
        raise HTTPException(422, "mode must be observe or manage")
    if not isinstance(value.get("notify_customers"), bool | None):
        raise HTTPException(422, "notify_customers must be true or false")
    for flag in _FLAGS:
        if not isinstance(value.get(flag, False), bool):
            raise HTTPException(422, f"{flag} must be true or false")
    says = value.get("mode") is not None or value.get("notify_customers") is not None
    if says == value.get("clear", False):
        raise HTTPException(422, "give mode, notify_customers or both, or else clear alone")
    return value


ROUTES = [ConnectionRoute("/mode", set_mode, method="POST")]
