"""`POST /webhooks/{app}` and `/webhooks/{app}/{connection}`: verify, commit, answer.

The hot path, so it is raw ASGI (DESIGN "Receive"). The order of the steps is a promise: a route
and an app we know, a body within its bounds, a good signature, and only then anything that costs
storage. The answer 200 comes after the commit of the own row and before any processing
(MISSION W3).
"""

import asyncio
from typing import Any
from urllib.parse import unquote

from prometheus_client import Counter, Histogram

from linekeeper.clock import new_id, utcnow
from linekeeper.config import AppConfig, Configuration
from linekeeper.inbox.headers import keep_headers
from linekeeper.inbox.identify import identify, make_delivery
from linekeeper.inbox.intake import Intake, StorageDown
from linekeeper.inbox.meaning import CANARY, EventNames
from linekeeper.inbox.tally import Tally
from linekeeper.inbox.verify import Headers, Rejected, Verifier
from linekeeper.receiver import protocol
from linekeeper.receiver.protocol import (
    SCOPE_KEY,
    ErrorAnswer,
    GuardedProtocol,
    Message,
    Receive,
    Scope,
    Send,
)
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.configuration import load_configuration

DELIVERIES = Counter(
    "linekeeper_deliveries",
    "Webhook deliveries by answer: accepted, canary, duplicate, or why they were turned away.",
    ["app", "answer"],
)
BATCH_ROWS = Histogram(
    "linekeeper_intake_batch_rows",
    "Deliveries stored in one transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
COMMIT_SECONDS = Histogram(
    "linekeeper_intake_commit_seconds",
    "Seconds from the beginning of a transaction to its commit.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 4),
)


def observe_batch(rows: int, seconds: float) -> None:
    """Note one committed transaction."""
    BATCH_ROWS.observe(rows)
    COMMIT_SECONDS.observe(seconds)


class InboxApp:
    """One app, ready for the hot path."""

    __slots__ = (
        "accepted",
        "canary",
        "config",
        "duplicate",
        "keeps_headers",
        "name",
        "names",
        "scheme",
        "verifier",
    )

    def __init__(self, config: AppConfig) -> None:
        self.config = config
        self.name = config.name
        self.scheme = config.webhook_scheme
        self.keeps_headers = config.keeps_headers
        self.verifier = Verifier(
            config.webhook_scheme,
            [secret.get_secret_value() for secret in config.webhook_secrets],
            reserialized=config.webhook_reserialized,
        )
        self.names = EventNames(config.entities, config.event_kinds)
        self.accepted = DELIVERIES.labels(config.name, "accepted")
        self.canary = DELIVERIES.labels(config.name, "canary")
        self.duplicate = DELIVERIES.labels(config.name, "duplicate")


class Apps:
    """The configured apps by name, as they were when the database last answered."""

    def __init__(self) -> None:
        self._apps: dict[str, InboxApp] = {}

    def get(self, name: str) -> InboxApp | None:
        return self._apps.get(name)

    async def refresh(self, store: Store, settings: Settings) -> None:
        """Take over the configuration as it is now; raises, and changes nothing, if it can't."""
        self.take(await load_configuration(store, settings))

    def take(self, configuration: Configuration) -> None:
        """Use `configuration`; what is the same as before is kept."""
        apps: dict[str, InboxApp] = {}
        for name, config in configuration.apps.items():
            known = self._apps.get(name)
            apps[name] = known if known and known.config == config else InboxApp(config)
        self._apps = apps


BODY_SECONDS = 10.0
HELD_BYTES = 64 * 1024 * 1024
"""The limit for all bodies together that are still arriving."""

_TOO_SLOW = object()


class Disconnected(Exception):
    """The sender went away before the end of the body."""


class Bodies:
    """Reads bodies of at most `max_bytes`. What arrives in one piece costs nothing extra.

    When those that are still arriving hold `HELD_BYTES`, the one that takes longest gives way.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = 0
        self._reading: dict[asyncio.Task[Any], float] = {}
        """Until when each may take, the earliest first."""
        self._look: asyncio.TimerHandle | None = None
        self.seconds = BODY_SECONDS

    def give_up_longest(self) -> bool:
        """End the reading that has lasted longest (its sender is too slow); False if there is none.

        Whoever sends the whole of a request at once is never the one.
        """
        current = asyncio.current_task()
        for task in self._reading:
            if task is not current:
                del self._reading[task]
                task.cancel(_TOO_SLOW)
                return True
        return False

    def refused(self, headers: Headers) -> ErrorAnswer | None:
        """What can be said before reading. A body that is compressed is not unpacked: 415."""
        length = headers.get(b"content-length")
        if length is not None and length.isdigit() and int(length[:18]) > self._max_bytes:
            return protocol.TOO_LARGE
        if headers.get(b"content-encoding", b"identity") != b"identity":
            return protocol.ENCODED
        return None

    async def read(self, scope: Scope, receive: Receive) -> bytes | ErrorAnswer:
        """The body, or why it was not read to its end. Raises `Disconnected`."""
        connection: GuardedProtocol | None = scope.get(SCOPE_KEY)
        whole = None if connection is None else connection.take_body()
        if whole is not None:
            return whole if len(whole) <= self._max_bytes else protocol.TOO_LARGE
        task = asyncio.current_task()
        assert task is not None
        # One timer for all: a timer each, most of them for nothing, would cost every request 2 µs.
        loop = task.get_loop()
        self._reading[task] = end = loop.time() + self.seconds
        if self._look is None:
            self._look = loop.call_at(end, self._give_up_late, loop)
        try:
            message = await receive()
            if message["type"] != "http.request":
                raise Disconnected
            if message["more_body"]:
                return await self._read_on(message, receive)
            body: bytes = message["body"]
            return body if len(body) <= self._max_bytes else protocol.TOO_LARGE
        except asyncio.CancelledError as error:
            if error.args != (_TOO_SLOW,):
                raise
            task.uncancel()
            return protocol.TOO_SLOW
        finally:
            self._reading.pop(task, None)

    def _give_up_late(self, loop: asyncio.AbstractEventLoop) -> None:
        self._look = None
        for task, end in list(self._reading.items()):
            if end > loop.time():
                self._look = loop.call_at(end, self._give_up_late, loop)
                return
            del self._reading[task]
            task.cancel(_TOO_SLOW)

    async def _read_on(self, message: Message, receive: Receive) -> bytes | ErrorAnswer:
        parts: list[bytes] = []
        held = 0
        try:
            while True:
                body = message["body"]
                parts.append(body)
                held += len(body)
                self._held += len(body)
                if held > self._max_bytes:
                    return protocol.TOO_LARGE
                if self._held > HELD_BYTES and not self.give_up_longest():
                    return protocol.BUSY
                if not message["more_body"]:
                    return b"".join(parts)
                message = await receive()
                if message["type"] != "http.request":
                    raise Disconnected
        finally:
            self._held -= held


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
            refused = protocol.STORAGE
        except asyncio.CancelledError:
            refused = protocol.STOPPING  # the server ends; the sender comes again
        if refused is not None:
            await refused(send)

    async def _deliver(self, scope: Scope, receive: Receive, send: Send) -> ErrorAnswer | None:
        app, connection, unrouted = self._route(scope)
        if app is None:
            return self._refuse(scope, "", unrouted, 0)
        headers = dict(scope["headers"])
        refused = self._bodies.refused(headers)
        if refused is not None:
            return self._refuse(scope, app.name, refused, 0)
        body = await self._bodies.read(scope, receive)
        if not isinstance(body, bytes):
            return self._refuse(scope, app.name, body, 0)
        now = utcnow()
        verdict = app.verifier.verify(headers, body, now=now.timestamp())
        if isinstance(verdict, Rejected):
            refused = protocol.UNVERIFIED[verdict.cause]
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
        await protocol.stored(scope, send, receipt.id, is_new=receipt.is_new)
        return None

    def _route(self, scope: Scope) -> tuple[InboxApp | None, str | None, ErrorAnswer]:
        # Split before unquoting: a connection's key may contain an encoded slash.
        parts = scope["raw_path"].decode("latin-1").split("/")[2:]
        if len(parts) > 2 or not parts[0]:
            return None, None, protocol.NO_ROUTE
        if scope["method"] != "POST":
            return None, None, protocol.NOT_POST
        app = self._apps.get(unquote(parts[0]))
        connection = unquote(parts[1]) if len(parts) == 2 else None
        return app, connection or None, protocol.UNKNOWN_APP

    def _refuse(self, scope: Scope, app: str, refused: ErrorAnswer, size: int) -> ErrorAnswer:
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
