"""Events about connections: judged with their own time, concluded, announced, at once (C1, C2)."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig, HealthPolicy
from linekeeper.consumer.events import NotConfigured, apply, failed, giving_back
from linekeeper.exact import read
from linekeeper.health.evidence import Observation, Outcome
from linekeeper.health.scope import doubt
from linekeeper.health.service import observe
from linekeeper.inbox.claim import Event, Settled, claim_events
from linekeeper.inbox.meaning import ABOUT_CONNECTIONS, CANARY, EventNames, Statement, statement
from linekeeper.inbox.routing import connections_of
from linekeeper.incidents.conclude import conclude
from linekeeper.reconcile.entity_syncs import EntitySync, note_syncs
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.connection_settings import Settings, configured, load_settings
from linekeeper.store.engine import chunked
from linekeeper.store.tables import Connection

RANK = 0
BATCH = 500


async def process_connection_events(rt: Runtime) -> bool:
    """Claim and apply one batch; returns whether there was any.

    An event that says nothing any more, since its connection was judged by what is newer, is
    recorded and ends `stale`.
    """
    claimed = await claim_events(rt.store, rt.owner, rank=RANK, limit=BATCH, now=utcnow())
    if not claimed.events:
        return False
    async with giving_back(rt, claimed):
        configuration = await rt.configuration()
        apps = configuration.apps
        judging = _Judging(rt.store, configuration.policy, apps)
        waiting = _unconfigured(claimed.events, apps)
        late = {event.id for events_of_key in waiting.values() for event in events_of_key}
        ours = [event for event in claimed.events if event.id not in late]
        troubles = await apply(rt, claimed, [ours], judging)
        troubles += [
            (events_of_key, NotConfigured(events_of_key[0].app))
            for events_of_key in waiting.values()
        ]
        await failed(rt, claimed, troubles)
    return True


def _unconfigured(events: Sequence[Event], apps: Mapping[str, AppConfig]) -> dict[str, list[Event]]:
    """Return by ordering key those whose app is in no settings now: nobody knows whether they
    are to be handed on, so they wait for it. A canary is nobody's."""
    waiting: dict[str, list[Event]] = {}
    for event in events:
        if event.app not in apps and event.kind != CANARY:
            waiting.setdefault(event.ordering_key, []).append(event)
    return waiting


class _Judging:
    def __init__(self, store: Store, policy: HealthPolicy, apps: Mapping[str, AppConfig]) -> None:
        self._store = store
        self._policy = policy
        self._apps = apps

    async def __call__(
        self, session: AsyncSession, events: Sequence[Event]
    ) -> Mapping[str, Settled]:
        now = utcnow()
        named = await connections_of(session, events)
        owners = {event_id: target.id for event_id, target in named.items()}
        await _lock(session, sorted(set(owners.values())))
        seen: list[tuple[str, Observation]] = []
        said_by: list[str] = []
        """The event of each that is seen."""
        settled: dict[str, Settled] = {}
        syncs: list[EntitySync] = []
        doubted: list[str] = []
        whole: dict[str, datetime] = {}
        statements = {
            event.id: statement(event.kind, event.event, read(event.body or b""))
            for event in events
        }
        scopes: SyncScopes | None = None
        if any(said.entities for said in statements.values()):
            scopes = SyncScopes(self._apps, await load_settings(session, owners.values()))
        for event in events:
            if event.kind == CANARY:
                settled[event.id] = Settled("processed", note="a canary: it is about no connection")
                continue
            said, owner = statements[event.id], owners.get(event.id)
            if owner is None:
                settled[event.id] = _without_owner(event)
            elif said.says is None:
                settled[event.id] = _says_nothing(event, owner)
                doubted += [owner] if event.kind == "connection.status_changed" else []
            elif scopes and (single := scopes.single(event, said, owner)) is not None:
                settled[event.id] = Settled("processed", owner, _of_entities(single))
                syncs += single
                doubted += [owner] if said.says == "login_lost" else []
            else:
                settled[event.id] = Settled("processed", owner)
                said_by.append(event.id)
                seen.append((owner, _observation(event, said)))
                if said.synced:
                    whole[owner] = max(whole.get(owner, event.at), event.at)
        if syncs or whole:
            await note_syncs(self._store, session, syncs, whole)
        if doubted:
            await doubt(session, sorted(set(doubted)), now=now)
        too_late: set[int] = set()
        changes = await observe(
            self._store, session, seen, policy=self._policy, now=now, too_late=too_late
        )
        for number in too_late:
            settled[said_by[number]] = Settled("stale", seen[number][0])
        if changes:
            await conclude(self._store, session, policy=self._policy, now=now)
        return settled


def _observation(event: Event, said: Statement) -> Observation:
    assert said.says is not None  # only what says something is observed
    observed = Observation(
        at=event.at,
        source="webhook",
        outcome=Outcome(said.says),
        code=said.code,
        message=said.message,
        request_id=said.request_id,
    )
    return replace(observed, sync_updated_at=event.at) if said.synced else observed


def _of_entities(syncs: Sequence[EntitySync]) -> str:
    """What becomes of an event about single entities: it says nothing of the connection."""
    names = ", ".join(sync.entity for sync in syncs)
    return f"about {names} only" if names else "about entities that are not read here"


def _without_owner(event: Event) -> Settled:
    if event.connection_ref is None and event.kind == "system.error":
        return Settled("processed", note="about no connection")
    if event.connection_ref is None:
        return Settled("unrouted", note="it names no connection")
    return Settled("unrouted", note=f"no connection is known as {event.connection_ref}")


def _says_nothing(event: Event, owner: str) -> Settled:
    if event.kind not in ABOUT_CONNECTIONS:
        return Settled(
            "dead", owner, f"the app maps {event.event} to {event.kind}, which is no kind of event"
        )
    return Settled("processed", owner, "it says nothing of the connection's health")


async def _lock(session: AsyncSession, ids: Sequence[str]) -> None:
    """Lock these connections, in the order in which everybody locks."""
    for chunk in chunked(ids, 5_000):
        await session.execute(
            select(col(Connection.id))
            .where(col(Connection.id).in_(chunk))
            .order_by(col(Connection.id))
            .with_for_update(key_share=True)
        )


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
