"""Finding the deliveries that name a record: their bodies are searched, newest first."""

import json
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    Select,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.explain.facts import DeliveryFacts
from linekeeper.inbox.sealing import kept_keys
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Transition, WebhookEvent
from linekeeper.store.types import from_row, table_of

SEARCHED = 5_000
"""The newest deliveries of a connection are searched for a key first."""
_MOST = 20
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
    _EVENT.c.body_keys,
)


async def naming(
    store: Store,
    session: AsyncSession,
    connection: Connection,
    key: str,
    announced_at: datetime | None,
) -> list[DeliveryFacts]:
    """Deliveries that name `key` and are or may be the connection's, the newest first.

    Those older than the newest `SEARCHED` of the connection are searched where these have none.
    """
    own = _EVENT.c.connection_id == connection.id
    asked = {"own": connection.id, **_spellings(key)}
    deliveries: list[Any] = list(await session.execute(_newest(store.is_sqlite), asked))
    if announced_at is not None and not any(row.received_at == announced_at for row in deliveries):
        deliveries += await session.execute(
            select(*_COLUMNS)
            .where(
                *_arrived_about(announced_at),
                or_(own, _EVENT.c.connection_id.is_(None)),
                _contains(_EVENT.c, store.is_sqlite),
            )
            .limit(_MOST),
            _spellings(key),
        )
    if not deliveries:
        deliveries += await session.execute(_older(store.is_sqlite), asked)
    names = {connection.id, connection.makini_key, connection.makini_id}
    rows = {
        row.id: row
        for row in deliveries
        if row.app == connection.app and _names(row, key) and _may_be(row, connection.id, names)
    }
    ordered = sorted(rows.values(), key=lambda row: (row.received_at, row.id), reverse=True)
    return [await facts_of(session, row, connection.id) for row in ordered[:_MOST]]


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
    return from_row(
        DeliveryFacts,
        row,
        is_claimed=row.claimed_by is not None,
        message_id=row.replay_of or row.id,
        health_then=health,
    )


def keys_in(row: Any) -> list[str]:
    """The record keys that the body of a row of `webhook_event` names, as they are stored."""
    return kept_keys(row.body, row.body_keys)


@cache
def _newest(is_sqlite: bool) -> Select[Any]:
    """Select the newest deliveries that have the key: the connection's, and nobody's. Built
    once. One statement, for each costs a visit to the database. Those that nobody owns are found
    by the partial indexes of their status, which is why that is written into the statement; they
    are not narrowed to the app, for SQLite would take the index by app, which holds all."""
    parts = [_EVENT.c.connection_id == bindparam("own", type_=_EVENT.c.connection_id.type)]
    for status in ("pending", "dead", "unrouted"):
        of_status = _EVENT.c.status == literal_column(f"'{status}'")
        parts.append(and_(of_status, _EVENT.c.connection_id.is_(None)))
    candidates = []
    for part in parts:
        newest = (
            select(*_COLUMNS)
            .where(part)
            .order_by(_EVENT.c.received_at.desc())
            .limit(literal_column(str(SEARCHED)))
            .subquery()
        )
        newest_rows = (
            select(newest)
            .where(newest.c.body.is_not(None), _contains(newest.c, is_sqlite))
            .order_by(newest.c.received_at.desc())
            .limit(literal_column(str(_MOST)))
            .subquery()
        )
        candidates.append(select(newest_rows))
    return select(union_all(*candidates).subquery())


@cache
def _older(is_sqlite: bool) -> Select[Any]:
    """Select the newest of the connection's deliveries before these that have the key. Built
    once."""
    own = _EVENT.c.connection_id == bindparam("own", type_=_EVENT.c.connection_id.type)
    edge = (
        select(_EVENT.c.received_at)
        .where(own)
        .order_by(_EVENT.c.received_at.desc())
        .limit(1)
        .offset(literal_column(str(SEARCHED)))
        .scalar_subquery()
    )
    return (
        select(*_COLUMNS)
        .where(
            own,
            _EVENT.c.received_at <= edge,
            _EVENT.c.body.is_not(None),
            _contains(_EVENT.c, is_sqlite),
        )
        .order_by(_EVENT.c.received_at.desc())
        .limit(_MOST)
    )


def _contains(columns: Any, is_sqlite: bool) -> ColumnElement[bool]:
    """Whether a body has the key somewhere, as it is or as JSON may spell it.

    Of one that is encrypted the keys it names are looked at.
    """
    searched = func.coalesce(columns.body_keys, columns.body)
    needles = [bindparam(name, type_=LargeBinary) for name in _spellings("")]
    found_at = [
        func.instr(searched, needle) if is_sqlite else func.position(needle.op("IN")(searched))
        for needle in needles
    ]
    return or_(*(position_of_key > 0 for position_of_key in found_at))


def _spellings(key: str) -> dict[str, bytes]:
    """How a body may spell `key`. PHP, which Makini is made with, writes `\\/` for a slash."""
    of_key = {"plain": key.encode("utf-8", "replace"), "escaped": json.dumps(key)[1:-1].encode()}
    return of_key | {f"{how}_by_php": text.replace(b"/", b"\\/") for how, text in of_key.items()}


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
    return key in keys_in(row)


def _may_be(row: Any, connection_id: str, names: set[str | None]) -> bool:
    if row.connection_id is not None:
        return bool(row.connection_id == connection_id)
    said = [text for text in (row.connection_ref, row.url_connection) if text]
    # Of one that is unrouted nobody knows whose it is: it may be this connection's.
    return row.status == "unrouted" or not said or any(text in names for text in said)
