"""`POST /slack/actions`: the buttons of an incident's message, and its dialog.

The signature is verified before anything of the body is read. Behind this door and the socket
(`consumer.slack_socket`) is the same code.
"""

from typing import Any
from urllib.parse import parse_qs

import orjson
from slack_sdk.signature import SignatureVerifier
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from linekeeper.interactions import interact
from linekeeper.notify.routing import channels_of
from linekeeper.receiver.gate import read_body
from linekeeper.receiver.keys import runtime_of

_MAX_BODY = 512 * 1024


async def act(request: Request) -> Response:
    """Do what was pressed; 401 for a request that Slack did not sign within five minutes."""
    rt = runtime_of(request)
    channels = channels_of(await rt.configuration()).values()
    secrets = {channel.signing_secret.get_secret_value() for channel in channels}
    body = await read_body(request, _MAX_BODY)
    if not any(secret.strip() and _is_signed(secret, body, request) for secret in secrets):
        return JSONResponse({"error": "this was not signed by Slack"}, status_code=401)
    reply = await interact(rt, _payload(body))
    background = BackgroundTask(reply.afterwards) if reply.afterwards is not None else None
    if reply.body is not None:
        return JSONResponse(reply.body, background=background)
    return Response(status_code=200, background=background)


def _is_signed(secret: str, body: bytes, request: Request) -> bool:
    try:
        return SignatureVerifier(secret).is_valid_request(body, dict(request.headers))
    except (ValueError, TypeError, OverflowError):
        return False  # a timestamp that is no number, bytes that are no text


def _payload(body: bytes) -> dict[str, Any]:
    try:
        form = parse_qs(body.decode("utf-8"), max_num_fields=20)
        value = orjson.loads(form.get("payload", ["{}"])[0])
    except (ValueError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


ROUTES = [Route("/slack/actions", act, methods=["POST"])]
