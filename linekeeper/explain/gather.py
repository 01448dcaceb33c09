"""The way of one record or delivery, gathered from the database."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.config import Configuration
from linekeeper.explain import deliveries, queries
from linekeeper.explain.facts import ChangeFacts, DeliveryFacts, RecordFacts, Way
from linekeeper.inbox.meaning import RECORD_KINDS
from linekeeper.inbox.routing import connections_of
from linekeeper.store import Store
from linekeeper.store.keys import stored_key
from linekeeper.store.retention import load_retention
from linekeeper.store.tables import Connection

_BEFORE = timedelta(minutes=1)
"""Clocks differ: a delivery may seem to come before the change it announces."""
_OPEN = frozenset({"pending", "dead", "unrouted", "deferred"})


async def record_way(
    store: Store,
    session: AsyncSession,
    configuration: Configuration,
    connection_id: str,
    key: str,
    *,
    change: ChangeFacts | None = None,
    entity: str | None = None,
    now: datetime,
) -> Way:
    """Everything known of the record's newest change, or of `change`.

    A key may be that of records of several entities: without `entity` the one that changed last is
    meant. A key that the record had before another connection took over leads to the one it has.
    """
    around = await queries.around(session, connection_id, configuration)
    connection = around.row
    assert connection is not None  # found a moment ago, and connections are never removed
    key, renamed_from = stored_key(key), None
    entity = change.entity if change is not None else entity
    asked_of, asked_key = connection, key
    if change is None:
        location = await _where_it_is(session, connection, key, entity)
        records, connection, entity = location.records, location.connection, location.entity
        key, renamed_from = location.key, key if location.key != key else None
        if connection is not asked_of:
            around = await queries.around(session, connection.id, configuration)
    else:
        records = await queries.records_of(session, connection.id, key, entity)
    key = records[0].key if records else key
    entities = await queries.entities_of(session, connection.id)
    if change is None:
        known = {facts.entity for facts in entities}
        known |= {record.entity for record in records}
        app = configuration.apps.get(connection.app)
        known |= set(app.entities) if app is not None else set()
        known = {entity} if entity is not None else known
        changes = await queries.changes_of(session, connection.id, key, sorted(known))
        change = changes[0] if changes else None
        is_newest = True
    else:
        changes = await queries.changes_of(session, connection.id, key, [change.entity])
        is_newest = False
    entity = entity or (change.entity if change else records[0].entity if records else None)
    record = next((each for each in records if each.entity == entity), None)
    named = await deliveries.naming(
        store, session, connection, key, change.announced_at if change else None
    )
    if connection is not asked_of:
        before = await deliveries.naming(store, session, asked_of, asked_key, None)
        named = sorted([*named, *before], key=lambda each: each.received_at, reverse=True)
    naming = [each for each in named if None in (entity, each.entity) or each.entity == entity]
    if change is not None and change.announced_at is None:
        # What announced another change of the record did not announce this one.
        spent = {each.announced_at for each in changes}
        naming = [each for each in naming if each.received_at not in spent]
    delivery, change = matched(naming, change, is_newest=is_newest)
    way = Way(
        key=key,
        connection=around.facts,
        now=now,
        record=record,
        named_at=max((each.received_at for each in named), default=None),
        change=change,
        delivery=delivery,
        entities=tuple(
            [facts for facts in entities if facts.entity == entity] or entities
            if change is None
            else entities
        ),
        renamed_from=renamed_from,
        also_in=tuple(sorted({each.entity for each in records} - {entity or ""})),
        kept_since=around.kept_since,
        retention=await load_retention(store, session),
    )
    return await _with_surroundings(session, way)


async def delivery_way(
    store: Store, session: AsyncSession, configuration: Configuration, row: Any, *, now: datetime
) -> Way:
    """Everything known of one delivery, a row of `webhook_event`."""
    owner = row.connection_id
    if owner is None and (target := (await connections_of(session, [row])).get(row.id)):
        owner = target.id  # as will be written down when the delivery is settled
    around = await queries.around(session, owner, configuration)
    connection = around.row
    facts = await deliveries.facts_of(session, row, owner)
    keys = deliveries.keys_in(row) if row.kind in RECORD_KINDS else []
    way = Way(
        key=keys[0] if keys else None,
        connection=around.facts,
        now=now,
        delivery=facts,
        more_keys=max(len(set(keys)) - 1, 0),
        kept_since=around.kept_since,
        retention=await load_retention(store, session),
    )
    if connection is not None and keys:
        location = await _where_it_is(session, connection, keys[0], row.entity)
        changes = await queries.changes_of(session, connection.id, keys[0], [row.entity or ""])
        way = replace(
            way,
            record=location.records[0] if location.records else None,
            change=_announced(facts, changes),
        )
    return await _with_surroundings(session, way)


@dataclass(frozen=True, slots=True)
class _Location:
    """Where a record is in the index by now, and under which key."""

    connection: Connection
    key: str
    entity: str | None
    records: Sequence[RecordFacts]


async def _where_it_is(
    session: AsyncSession, connection: Connection, key: str, entity: str | None
) -> _Location:
    """Follow a record to the key it has by now, and to the connection that took its place.

    What took a connection's place has its index, also where records are not matched yet. Where
    nothing is found it is of the connection that was asked about.
    """
    location = _Location(connection, key, entity, ())
    visited: set[tuple[str, str]] = set()
    at, wanted, which = connection, key, entity
    while (at.id, wanted) not in visited:
        visited.add((at.id, wanted))
        if records := await queries.records_of(session, at.id, wanted, which):
            return _Location(at, wanted, which, records)
        renamed = await queries.renamed(session, (at.id, at.replaced_by), wanted)
        if renamed is not None:
            at = await session.get_one(Connection, renamed.connection_id)
            wanted, which = renamed.key, renamed.entity
            location = _Location(at, wanted, which, ())
        elif at.replaced_by is not None:
            at = await session.get_one(Connection, at.replaced_by)
    return location


def matched(
    naming: Sequence[DeliveryFacts], change: ChangeFacts | None, *, is_newest: bool
) -> tuple[DeliveryFacts | None, ChangeFacts | None]:
    """Which delivery, newest first, belongs to which change: the pair that is explained. Pure.

    A delivery that is newer than the newest change and not settled well is what is asked about.
    One that was settled well and is newer brought nothing new.
    """
    if change is None:
        return (naming[0], None) if naming else (None, None)
    if is_newest and naming:
        newest = naming[0]
        notified_at = max(change.announced_at or change.at, change.at)
        if newest.received_at > notified_at and newest.status in _OPEN:
            return newest, None
    if change.announced_at is not None:
        since = change.announced_at
        exact = (d for d in naming if d.received_at == since)
        # Before, a change had the time of the first delivery that was settled together with its.
        after = (d for d in reversed(naming) if since <= d.received_at <= change.at)
        return next(exact, None) or next(after, None), change
    since = change.updated_at or change.at
    about = [d for d in naming if since - _BEFORE <= d.received_at <= change.at]
    return (about[0] if about else None), change


def _announced(delivery: DeliveryFacts, changes: Sequence[ChangeFacts]) -> ChangeFacts | None:
    for change in changes:
        if change.announced_at == delivery.received_at:
            return change
    return None


async def _with_surroundings(session: AsyncSession, way: Way) -> Way:
    """What happened around it: forwards, reads, outages, rejected deliveries."""
    connection, change = way.connection, way.change
    forward = await queries.forward_of(
        session, connection.id if connection else None, way.delivery, change
    )
    way = replace(way, forward=forward)
    if change is not None:
        way = replace(way, reads=await queries.reads_of(session, change))
    if change is not None and way.delivery is None and connection is not None:
        rejected, why = await queries.rejected_between(
            session, connection.app, way.changed_at, change.at
        )
        outage = await queries.outage_at(session, way.changed_at)
        counted = await queries.counted_as(session, change)
        health = await queries.health_at(session, connection.id, way.changed_at)
        way = replace(
            way,
            outage=outage,
            rejected=rejected,
            rejected_why=why,
            counted_as=counted,
            health_then=health,
        )
    return way
