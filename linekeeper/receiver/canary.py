"""`POST /api/canary`: the product's echo; `GET /api/canary/{id}`: what came of a canary."""

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from linekeeper.canary.echo import MOST_CHARACTERS, Canary, note_echo, read_canary
from linekeeper.clock import utcnow
from linekeeper.receiver.gate import read_body
from linekeeper.receiver.keys import require_key, runtime_of

SCOPE = "canary:write"
_MAX_ECHO = 4_096


async def echo(request: Request) -> Response:
    """The product got the canary whose id it sends: a forward's `webhook-id`, or the body's id."""
    await require_key(request, SCOPE)
    try:
        value = orjson.loads(await read_body(request, _MAX_ECHO))
    except orjson.JSONDecodeError:
        raise HTTPException(422, "the body is not JSON") from None
    wanted = value.get("id") if isinstance(value, dict) else None
    if not isinstance(wanted, str) or not 0 < len(wanted) <= MOST_CHARACTERS:
        raise HTTPException(422, "send {“id”: …}, the webhook-id that the canary came with")
    rt = runtime_of(request)
    apps = (await rt.configuration()).apps
    return _shown(await note_echo(rt.store, wanted, apps, now=utcnow()))


async def show(request: Request) -> Response:
    """Which hops a canary has passed, and when."""
    await require_key(request, SCOPE)
    rt = runtime_of(request)
    apps = (await rt.configuration()).apps
    return _shown(await read_canary(rt.store, request.path_params["id"], apps))


def _shown(canary: Canary | None) -> Response:
    if canary is None:
        raise HTTPException(404, "no canary has this id")
    return Response(
        canary.encoded(),
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


ROUTES = [
    Route("/api/canary", echo, methods=["POST"]),
    Route("/api/canary/{id}", show, methods=["GET"]),
]
