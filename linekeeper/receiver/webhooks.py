"""`POST /webhooks/{app}` and `/webhooks/{app}/{connection}`: verify, commit, answer.

The hot path, so it is raw ASGI (DESIGN "Receive"). The order of the steps is a promise: a route
and an app we know, a body within its bounds, a good signature, and only then anything that costs
storage. The answer 200 comes after the commit of the own row and before any processing
(MISSION W3).
"""

import asyncio
from urllib.parse import unquote

from prometheus_client import Counter, Histogram

from linekeeper.clock import new_id, utcnow
from linekeeper.config import AppConfig, Configuration
from linekeeper.inbox.headers import keep_headers
from linekeeper.inbox.identify import identify, make_delivery
from linekeeper.inbox.intake import Intake, StorageDown
from linekeeper.inbox.kinds import CANARY, EventNames
from linekeeper.inbox.tally import Tally
from linekeeper.inbox.verify import Rejected, Verifier
from linekeeper.receiver import raw
from linekeeper.receiver.raw import Bodies, Disconnected, Receive, Refusal, Scope, Send
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
    "From the beginning of a transaction to its commit.",
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
        """The app `name`, or None if there is none."""
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
            refused = raw.STORAGE
        except asyncio.CancelledError:
            refused = raw.STOPPING  # the server ends; the sender comes again
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
        body = await self._bodies.read(scope, receive)
        if not isinstance(body, bytes):
            return self._refuse(scope, app.name, body, 0)
        now = utcnow()
        verdict = app.verifier.verify(headers, body, now=now.timestamp())
        if isinstance(verdict, Rejected):
            refused = raw.UNVERIFIED[verdict.cause]
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
        await raw.stored(scope, send, receipt.id, is_new=receipt.is_new)
        return None

    def _route(self, scope: Scope) -> tuple[InboxApp | None, str | None, Refusal]:
        # Split before unquoting: a connection's key may contain an encoded slash.
        parts = scope["raw_path"].decode("latin-1").split("/")[2:]
        if len(parts) > 2 or not parts[0]:
            return None, None, raw.NO_ROUTE
        if scope["method"] != "POST":
            return None, None, raw.NOT_POST
        app = self._apps.get(unquote(parts[0]))
        connection = unquote(parts[1]) if len(parts) == 2 else None
        return app, connection or None, raw.UNKNOWN_APP

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
