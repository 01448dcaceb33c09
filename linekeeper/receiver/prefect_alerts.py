"""`POST /prefect/alerts`: what Prefect's automations report, with a secret of their own."""

import secrets

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from linekeeper.receiver.gate import read_body
from linekeeper.receiver.keys import runtime_of
from linekeeper.store.engine import encryption_keys
from linekeeper.watch.alerts import KINDS, Alert, alert_secrets, record_alert

_MAX_BODY = 16_384


async def report(request: Request) -> Response:
    """Keep the alert: 202, and whether people are notified; 401 without the secret."""
    rt = runtime_of(request)
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    wanted = alert_secrets(encryption_keys(rt.settings))
    known = [secrets.compare_digest(shown.strip().encode(), secret.encode()) for secret in wanted]
    if scheme.lower() != "bearer" or not any(known):
        raise HTTPException(
            401, "this secret is not ours: run `linekeeper deploy`", {"WWW-Authenticate": "Bearer"}
        )
    notified = await record_alert(rt.store, _alert(await read_body(request, _MAX_BODY)))
    return JSONResponse({"status": "accepted", "notified": notified}, status_code=202)


def _alert(body: bytes) -> Alert:
    """The alert in `body`. Raises `HTTPException` 422."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise HTTPException(422, "the body is not JSON") from None
    fields = value if isinstance(value, dict) else {}
    kind = next((kind for kind in KINDS if kind == fields.get("kind")), None)
    if kind is None:
        raise HTTPException(422, f"kind must be one of {', '.join(KINDS)}")
    subject = _text(fields.get("subject"))
    if not subject:
        raise HTTPException(422, "subject must be the deployment's or the pool's name")
    return Alert(
        kind,
        subject,
        _text(fields.get("run_id")),
        _text(fields.get("run_name")),
        _text(fields.get("message")),
    )


def _text(value: object) -> str:
    return "".join(c for c in value if c.isprintable()) if isinstance(value, str) else ""


ROUTES = [Route("/prefect/alerts", report, methods=["POST"])]
