"""`POST /webhooks/{app}` and `/webhooks/{app}/{connection}`: verify, commit, answer.

The hot path, so it is raw ASGI (DESIGN "Receive"). The order of the steps is a promise: a route
and an app we know, a body within its bounds, a good signature, and only then anything that costs
storage. The answer 200 comes after the commit of the own row and before any processing
(MISSION W3).
"""

import asyncio
from collections.abc import MutableMapping
from typing import Any, TypeAlias
from urllib.parse import unquote

from linekeeper.clock import new_id, utcnow
from linekeeper.inbox.delivery import make_delivery
from linekeeper.inbox.headers import keep_headers
from linekeeper.inbox.identify import identify
from linekeeper.inbox.intake import Intake, StorageDown
from linekeeper.inbox.kinds import CANARY
from linekeeper.inbox.tally import Tally
from linekeeper.inbox.verify import Rejected
from linekeeper.receiver import answers
from linekeeper.receiver.answers import Refusal, Send
from linekeeper.receiver.apps import Apps, InboxApp
from linekeeper.receiver.bodies import Bodies, Disconnected, Receive
from linekeeper.receiver.metrics import DELIVERIES

Scope: TypeAlias = MutableMapping[str, Any]

PREFIX = b"/webhooks/"


class Webhooks:
    """The ASGI app for paths under `/webhooks/`."""

    def __init__(self, apps: Apps, intake: Intake, tally: Tally, *, max_body_bytes: int) -> None:
        self._apps = apps
        self._intake = intake
        self._tally = tally
        self._bodies = Bodies(max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever it is, the answer is one of those in INTERFACE."""
        try:
            refused = await self._deliver(scope, receive, send)
        except Disconnected:
            return
        except StorageDown:
            refused = answers.STORAGE
        except asyncio.CancelledError:
            refused = answers.STOPPING  # the server ends; the sender comes again
        if refused is not None:
            await refused(send)

    async def _deliver(self, scope: Scope, receive: Receive, send: Send) -> Refusal | None:
        app, connection, unrouted = self._route(scope)
        if app is None:
            return self._refuse(scope, "", unrouted, 0)
        headers = dict(scope["headers"])
        refused = self._bodies.refused(headers)
        if refused is not None:
            return self._refuse(scope, app.name, refused, 0)
        body = await self._bodies.read(receive)
        if not isinstance(body, bytes):
            return self._refuse(scope, app.name, body, 0)
        now = utcnow()
        verdict = app.verifier.verify(headers, body, now=now.timestamp())
        if isinstance(verdict, Rejected):
            refused = answers.UNVERIFIED[verdict.cause]
            return self._refuse(scope, app.name, refused, len(body))
        identity = identify(
            app.name, app.names, headers, connection, body, now=now, scheme=app.scheme
        )
        identifier = new_id()
        receipt = await self._intake.store(
            make_delivery(
                identifier,
                app.name,
                identity,
                body,
                received_at=now,
                headers=keep_headers(scope["headers"]) if app.keeps_headers else None,
            )
        )
        if receipt.is_new:
            (app.canary if identity.kind == CANARY else app.accepted).inc()
        else:
            app.duplicate.inc()
            self._tally.count(app.name, "duplicate")
        await answers.stored(send, receipt.id, is_new=receipt.is_new)
        return None

    def _route(self, scope: Scope) -> tuple[InboxApp | None, str | None, Refusal]:
        # Split before unquoting: a connection's key may contain an encoded slash.
        parts = scope["raw_path"].decode("latin-1").split("/")[2:]
        if len(parts) > 2 or not parts[0]:
            return None, None, answers.NO_ROUTE
        if scope["method"] != "POST":
            return None, None, answers.NOT_POST
        app = self._apps.get(unquote(parts[0]))
        connection = unquote(parts[1]) if len(parts) == 2 else None
        return app, connection or None, answers.UNKNOWN_APP

    def _refuse(self, scope: Scope, app: str, refused: Refusal, size: int) -> Refusal:
        DELIVERIES.labels(app, refused.cause).inc()
        self._tally.count(app, refused.cause)
        self._tally.sample(
            app,
            refused.cause,
            path=scope["raw_path"],
            headers=scope["headers"],
            size=size,
            at=utcnow(),
        )
        return refused
