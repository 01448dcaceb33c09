"""What is answered while our database can't be used: come again."""

from contextlib import suppress

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from linekeeper.receiver.gate import FOR_CUSTOMERS, try_again
from linekeeper.receiver.protocol import RETRY_AFTER_SECONDS

_WAIT = {"Retry-After": str(RETRY_AFTER_SECONDS)}


def storage_down(scope: Scope) -> Response:
    """The answer to the request of `scope`; customers get a page."""
    if scope["path"].startswith(FOR_CUSTOMERS):
        return try_again(scope, 503)
    return JSONResponse(
        {"error": "Linekeeper's database can't be used right now: try again"},
        status_code=503,
        headers=_WAIT,
    )


def not_ready() -> Response:
    """The answer of `/readyz`."""
    return JSONResponse({"status": "storage down"}, status_code=503, headers=_WAIT)


def alive() -> Response:
    """The answer of `/healthz`."""
    return JSONResponse({"status": "alive"})


async def until_it_comes(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI app of a receiver that waits for its database."""
    path: str = scope["path"]
    answer = {"/healthz": alive, "/readyz": not_ready}.get(path)
    response = answer() if answer else storage_down(scope)
    response.headers["Connection"] = "close"  # the body, if there is one, is left unread
    with suppress(OSError):
        await response(scope, receive, send)
