"""`POST /slack/actions`: the buttons of an incident's message.

The signature is proven before anything of the body is read. What was pressed is done in our
database; the message itself is edited by the outbox, as always.
"""

from typing import Any
from urllib.parse import parse_qs

import orjson
from slack_sdk.signature import SignatureVerifier
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from linekeeper.clock import utcnow, zone_of
from linekeeper.incidents.operate import NoIncident, acknowledge, snooze
from linekeeper.makini import ReadOnlyApp
from linekeeper.notify.buttons import ACKNOWLEDGE, SNOOZE, pressed
from linekeeper.receiver.body import read_body
from linekeeper.receiver.keys import runtime_of
from linekeeper.reconnect.ask import send_again
from linekeeper.runtime import Runtime, UnknownApp

_MAX_BODY = 512 * 1024


async def act(request: Request) -> Response:
    """Do what was pressed; 401 for a request that Slack did not sign within five minutes."""
    rt = runtime_of(request)
    slack = (await rt.configuration()).slack
    secret = slack.signing_secret.get_secret_value() if slack else ""
    body = await read_body(request, _MAX_BODY)
    if not secret.strip() or not _is_signed(secret, body, request):
        return JSONResponse({"error": "this was not signed by Slack"}, status_code=401)
    payload = _payload(body)
    actions = payload.get("actions")
    user = payload.get("user")
    by = _person(user if isinstance(user, dict) else {})
    for action in actions if isinstance(actions, list) else []:
        what = pressed(action) if isinstance(action, dict) else None
        if what is not None:
            await _do(rt, what, by)
    return Response(status_code=200)


async def _do(rt: Runtime, what: tuple[str, str, str], by: str) -> None:
    name, incident_id, choice = what
    now = utcnow()
    try:
        if name == ACKNOWLEDGE:
            await acknowledge(rt.store, incident_id, by=by, now=now)
        elif name == SNOOZE:
            zone = zone_of((await rt.configuration()).alerts.time_zone)
            await snooze(rt.store, incident_id, choice, by=by, now=now, zone=zone)
        else:
            await send_again(rt, incident_id, by=by, now=now)
    except (NoIncident, ReadOnlyApp, UnknownApp):
        return  # the message shows what is true; it is edited when that changes


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


def _person(user: dict[str, Any]) -> str:
    name = user.get("username") or user.get("name") or user.get("id") or "somebody"
    return f"{str(name)[:80]} (Slack)"


ROUTES = [Route("/slack/actions", act, methods=["POST"])]
