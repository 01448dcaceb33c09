"""Planning record events: whose they are and what to read for them, looked up in the database.

Whatever fails here is the failure of the one event that causes it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.consumer.events import NotConfigured
from linekeeper.inbox.claim import Event, Settled
from linekeeper.inbox.plan import EventPlan, WantedRecords, plan, understand
from linekeeper.inbox.routing import EventTarget, connections_of, owners_of
from linekeeper.runtime import Runtime
from linekeeper.store import KeyProblem, Store
from linekeeper.store.connection_settings import configured, load_settings
from linekeeper.store.modes import app_of, load_chosen
from linekeeper.store.trouble import isolate
from linekeeper.tokens.stored import Token, load_tokens


class PlannedEvent(NamedTuple):
    """An event's plan, with what reading for it takes."""

    event: Event
    plan: EventPlan
    apps: Mapping[str, AppConfig]
    """The app of each connection, as that was configured."""
    targets: Mapping[str, EventTarget]
    tokens: Mapping[str, Token]


async def plan_events(
    rt: Runtime, events: Sequence[Event]
) -> tuple[list[PlannedEvent], list[tuple[Event, Exception]]]:
    """The plan of each event, and the events that can't be planned, with the reason."""
    apps = (await rt.configuration()).apps

    async def plan_some(events_to_plan: Sequence[Event]) -> list[PlannedEvent]:
        return await _plan(rt.store, apps, events_to_plan)

    known = [event for event in events if event.app in apps]
    planned, failed = await isolate(known, plan_some)
    failed += [(event, NotConfigured(event.app)) for event in events if event.app not in apps]
    return [each for part in planned for each in part], failed


async def _plan(
    store: Store, apps: Mapping[str, AppConfig], events: Sequence[Event]
) -> list[PlannedEvent]:
    understood = {event.id: understand(event) for event in events}
    unnamed: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for event in events:
        wanted = understood[event.id]
        if isinstance(wanted, WantedRecords) and event.connection_ref is None:
            unnamed[event.app, wanted.entity].update(wanted.keys)
    async with store.read() as session:
        named = await connections_of(session, events)
        by_key = await owners_of(session, unnamed)
        targets = {target.id: target for target in named.values()}
        targets |= {target.id: target for owners in by_key.values() for target in owners}
        tokens = await _tokens(store, session, sorted(targets))
        settings = await load_settings(session, sorted(targets))
        chosen = await load_chosen(session, sorted(targets))
    configured_apps = {
        id_: configured(
            app_of(apps.get(target.app) or AppConfig(name=target.app), chosen.get(id_)),
            settings.get(id_),
        )
        for id_, target in targets.items()
    }
    now = utcnow()
    with_token = frozenset(
        connection_id
        for connection_id, token in tokens.items()
        if token.may_read(configured_apps[connection_id], now)
    )
    planned: list[PlannedEvent] = []
    for event in events:
        wanted = understood[event.id]
        known = named.get(event.id)
        if isinstance(wanted, Settled):
            settled = wanted._replace(connection_id=known.id if known else None)
            planned.append(PlannedEvent(event, EventPlan(settled), {}, {}, {}))
            continue
        owners: dict[str, Sequence[EventTarget]] = {}
        for key in wanted.keys:
            if event.connection_ref is None:
                owners[key] = by_key.get((event.app, wanted.entity, key), ())
            elif known is not None:
                owners[key] = (known,)
        if known is not None:
            wanted = wanted._replace(
                entity=_as_configured(wanted.entity, configured_apps[known.id].entities)
            )
        made = plan(event, configured_apps, wanted, owners, with_token)
        planned.append(PlannedEvent(event, made, configured_apps, targets, tokens))
    return planned


def _as_configured(entity: str, entities: Sequence[str]) -> str:
    """The path of `entity`, where only the connection, and not its app, is read for it. Pure."""
    if "/" in entity:
        return entity
    paths = (path for path in entities if path.rpartition("/")[2] == entity)
    return next(paths, entity)


async def _tokens(store: Store, session: AsyncSession, ids: Sequence[str]) -> dict[str, Token]:
    """The tokens of the connections; one that can't be decrypted is as good as none."""
    try:
        return await load_tokens(store, session, ids)
    except KeyProblem:
        tokens: dict[str, Token] = {}
        for identifier in ids:
            try:
                tokens |= await load_tokens(store, session, [identifier])
            except KeyProblem:
                continue
        return tokens
