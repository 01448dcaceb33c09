"""Finding the deliveries that name a record: their bodies are searched, newest first."""

import json
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, LargeBinary, Select, and_, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.explain.facts import DeliveryFacts
from linekeeper.inbox.identify import read, record_keys
from linekeeper.store import Store, is_id
from linekeeper.store.core import table_of
from linekeeper.store.keys import stored_key
from linekeeper.store.tables import Connection, Transition, WebhookEvent

SEARCHED = 5_000
"""The newest deliveries of a connection whose bodies are searched for a key."""
_FOUND = 20
_EVENT = table_of(WebhookEvent)
_TRANSITION = table_of(Transition)
_COLUMNS = (
    _EVENT.c.id,
    _EVENT.c.app,
    _EVENT.c.delivery_key,
    _EVENT.c.source,
    _EVENT.c.status,
    _EVENT.c.connection_id,
    _EVENT.c.connection_ref,
    _EVENT.c.url_connection,
    _EVENT.c.event,
    _EVENT.c.kind,
    _EVENT.c.entity,
    _EVENT.c.event_at,
    _EVENT.c.received_at,
    _EVENT.c.processed_at,
    _EVENT.c.next_attempt_at,
    _EVENT.c.attempts,
    _EVENT.c.claimed_by,
    _EVENT.c.error,
    _EVENT.c.replay_of,
    _EVENT.c.body,
)


async def naming(
    store: Store,
    session: AsyncSession,
    connection: Connection,
    key: str,
    announced_at: datetime | None,
) -> list[DeliveryFacts]:
    """Deliveries that name `key` and are or may be the connection's, the newest first."""
    own = _EVENT.c.connection_id == connection.id
    found = list(await session.execute(_newest(store, own, key)))
    # Not narrowed to the app: SQLite would take the index by app, which holds every delivery.
    unowned = _EVENT.c.connection_id.is_(None)
    for status in ("pending", "dead", "unrouted"):
        # The status is written into the statement: only so are the partial indexes used.
        of_status = _EVENT.c.status == literal(status, literal_execute=True)
        found += await session.execute(_newest(store, and_(of_status, unowned), key))
    if announced_at is not None and not any(row.received_at == announced_at for row in found):
        found += await session.execute(
            select(*_COLUMNS)
            .where(*_arrived_about(announced_at), unowned, _contains(store, _EVENT.c.body, key))
            .limit(_FOUND)
        )
    names = {connection.id, connection.makini_key, connection.makini_id}
    rows = [
        row
        for row in found
        if row.app == connection.app and _names(row, key) and _may_be(row, connection.id, names)
    ]
    rows.sort(key=lambda row: (row.received_at, row.id), reverse=True)
    return [await facts_of(session, row, connection.id) for row in rows[:_FOUND]]


async def find_delivery(session: AsyncSession, wanted: str, apps: Collection[str]) -> Any | None:
    """The delivery with our id, or with the sender's at one of `apps`; a row of `webhook_event`."""
    if is_id(wanted):
        row = (await session.execute(select(*_COLUMNS).where(_EVENT.c.id == wanted))).first()
        if row is not None:
            return row
    return (
        await session.execute(
            select(*_COLUMNS)
            .where(_EVENT.c.app.in_(apps), _EVENT.c.delivery_key == wanted)
            .order_by(_EVENT.c.received_at.desc())
            .limit(1)
        )
    ).first()


async def facts_of(session: AsyncSession, row: Any, connection_id: str | None) -> DeliveryFacts:
    """One row of `webhook_event`, with the connection's health when it was settled."""
    health = None
    if row.status == "deferred" and connection_id is not None and row.processed_at is not None:
        health = await session.scalar(
            select(_TRANSITION.c.after)
            .where(
                _TRANSITION.c.connection_id == connection_id,
                _TRANSITION.c.axis == "health",
                _TRANSITION.c.at <= row.processed_at,
            )
            .order_by(_TRANSITION.c.at.desc())
            .limit(1)
        )
    return DeliveryFacts(
        id=row.id,
        delivery_key=row.delivery_key,
        source=row.source,
        status=row.status,
        event=row.event,
        kind=row.kind,
        entity=row.entity,
        event_at=row.event_at,
        received_at=row.received_at,
        processed_at=row.processed_at,
        next_attempt_at=row.next_attempt_at,
        attempts=row.attempts,
        is_claimed=row.claimed_by is not None,
        error=row.error,
        message_id=row.replay_of or row.id,
        health_then=health,
    )


def keys_in(body: bytes | None) -> list[str]:
    """The record keys a body names, as they are stored."""
    return [stored_key(key) for key in record_keys(read(body))] if body else []


def _newest(store: Store, which: ColumnElement[bool], key: str) -> Select[Any]:
    newest = (
        select(*_COLUMNS)
        .where(which)
        .order_by(_EVENT.c.received_at.desc())
        .limit(SEARCHED)
        .subquery()
    )
    return (
        select(newest)
        .where(newest.c.body.is_not(None), _contains(store, newest.c.body, key))
        .order_by(newest.c.received_at.desc())
        .limit(_FOUND)
    )


def _contains(store: Store, body: ColumnElement[Any], key: str) -> ColumnElement[bool]:
    """Whether a body has the key somewhere, as it is or as JSON may spell it."""
    spellings = {key.encode("utf-8", "replace"), json.dumps(key)[1:-1].encode()}
    found = []
    for spelling in sorted(spellings):
        needle = literal(spelling, LargeBinary)
        place = (
            func.instr(body, needle) if store.is_sqlite else func.position(needle.op("IN")(body))
        )
        found.append(place > 0)
    return or_(*found)


def _arrived_about(at: datetime) -> list[ColumnElement[bool]]:
    """Ids sort by arrival, which is the only index over all deliveries by time."""
    since, until = at - timedelta(seconds=5), at + timedelta(seconds=5)
    return [
        _EVENT.c.id >= _first_id(since),
        _EVENT.c.id <= _first_id(until),
        _EVENT.c.received_at == at,
    ]


def _first_id(at: datetime) -> str:
    digits = f"{max(int(at.timestamp() * 1000), 0):012x}"
    return f"{digits[:8]}-{digits[8:]}-7000-8000-000000000000"


def _names(row: Any, key: str) -> bool:
    return key in keys_in(row.body)


def _may_be(row: Any, connection_id: str, names: set[str | None]) -> bool:
    if row.connection_id is not None:
        return bool(row.connection_id == connection_id)
    said = [text for text in (row.connection_ref, row.url_connection) if text]
    # Of one that is unrouted nobody knows whose it is: it may be this connection's.
    return row.status == "unrouted" or not said or any(text in names for text in said)
