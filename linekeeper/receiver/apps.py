"""The apps a receiver takes webhooks for, compiled from the last good copy of the configuration."""

from linekeeper.config import AppConfig, Configuration
from linekeeper.inbox.kinds import EventNames
from linekeeper.inbox.verify import Verifier
from linekeeper.receiver.metrics import DELIVERIES
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.configuration import load_configuration


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
