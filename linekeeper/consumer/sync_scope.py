"""Whether a sync's end, as an event tells it, was of a whole connection or of single entities."""

from collections.abc import Mapping

from linekeeper.config import AppConfig
from linekeeper.inbox.claim import Event
from linekeeper.inbox.kinds import EventNames
from linekeeper.inbox.meaning import Statement
from linekeeper.reconcile.entity_syncs import EntitySync
from linekeeper.store.connection_settings import Settings, configured


class SyncScopes:
    """Reads the entities that events name as each app calls them."""

    def __init__(self, apps: Mapping[str, AppConfig], settings: Mapping[str, Settings]) -> None:
        self._apps = apps
        self._settings = settings
        self._names: dict[str, EventNames] = {}

    def single(self, event: Event, said: Statement, owner: str) -> list[EntitySync] | None:
        """The end of the sync of each entity that `event` names.

        None where it is of the connection as a whole: it names no entity, or all that are read.
        Empty where it names only such as aren't read here.
        """
        app = self._apps.get(event.app)
        if not said.entities or app is None:
            return None
        names = self._names.get(event.app)
        if names is None:
            names = self._names[event.app] = EventNames(app.entities, app.event_kinds)
        read = configured(app, self._settings.get(owner)).entities
        named = {names.entity(name) for name in said.entities}
        about = [entity for entity in read if entity in named]
        if len(about) == len(read):
            return None
        error = None if said.synced else said.message or "it does not say why"
        return [EntitySync(owner, entity, event.at, error) for entity in about]
