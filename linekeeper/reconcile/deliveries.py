"""Which records the deliveries named, processed or not."""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, literal_column, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.inbox.identify import aside_of
from linekeeper.inbox.meaning import RECORD_KINDS
from linekeeper.inbox.sealing import kept_keys
from linekeeper.store.tables import WebhookEvent

_AT_ONCE = 1_000


async def delivered_since(
    session: AsyncSession,
    connection_id: str,
    entity: str,
    ordering_keys: Sequence[str],
    *,
    since: datetime,
    new: Collection[str],
) -> dict[str, datetime]:
    """When the newest delivery came that named each record of `entity`, of those since `since`.

    `ordering_keys` are those its deliveries wait in until it is known whose they are. Of the keys
    in `new` nothing was known before: one that named no connection was not taken for theirs.
    """
    aside = [aside_of(ordering_key, entity) for ordering_key in ordering_keys]
    own = (col(WebhookEvent.connection_id) == connection_id, col(WebhookEvent.received_at) >= since)
    waiting = (
        # Spelled out, so that the partial index is used.
        col(WebhookEvent.status) == literal_column("'pending'"),
        col(WebhookEvent.ordering_key).in_([*ordering_keys, *aside]),
    )
    first_at: dict[str, datetime] = {}
    # One after the other: SQLite has no index for both at once, and reads the whole table. Those
    # that wait first: one that ends in between is the connection's by then.
    for which in (waiting, own):
        async for key, received_at, names_connection in _named(session, entity, which):
            if names_connection or key not in new:
                first_at[key] = max(received_at, first_at.get(key, received_at))
    return first_at


async def unrouted_since(
    session: AsyncSession,
    app: str,
    connection_id: str,
    entity: str,
    keys: Collection[str],
    *,
    since: datetime,
) -> dict[str, datetime]:
    """When the newest delivery came that named each of these `keys` and no connection, of those
    since `since` that are nobody's yet, or this one's by other keys in it: of a new record nobody
    knows whose it is before a poll."""
    newest_at: dict[str, datetime] = {}
    if not keys:
        return newest_at
    nameless = (
        col(WebhookEvent.app) == app,
        col(WebhookEvent.connection_ref).is_(None),
        col(WebhookEvent.received_at) >= since,
    )
    nobodys = col(WebhookEvent.status) == literal_column("'unrouted'")
    for whose in (nobodys, col(WebhookEvent.connection_id) == connection_id):
        async for key, received_at, _ in _named(session, entity, (whose, *nameless)):
            if key in keys:
                newest_at[key] = max(received_at, newest_at.get(key, received_at))
    return newest_at


async def deferred_since(
    session: AsyncSession, connection_id: str, entity: str, *, since: datetime
) -> dict[str, datetime]:
    """When the first delivery came that named each record, of those since `since` that nobody
    could apply."""
    first_at: dict[str, datetime] = {}
    which = (
        col(WebhookEvent.connection_id) == connection_id,
        col(WebhookEvent.received_at) >= since,
        col(WebhookEvent.status) == "deferred",
    )
    async for key, received_at, _ in _named(session, entity, which):
        first_at.setdefault(key, received_at)
    return first_at


async def _named(
    session: AsyncSession, entity: str, which: Iterable[ColumnElement[bool]]
) -> AsyncIterator[tuple[str, datetime, bool]]:
    """Each record of `entity` that a delivery named, of those which are so, when that came, and
    whether it named its connection."""
    statement = (
        select(
            col(WebhookEvent.id),
            col(WebhookEvent.received_at),
            col(WebhookEvent.body),
            col(WebhookEvent.body_keys),
            col(WebhookEvent.connection_ref),
        )
        .where(
            *which,
            col(WebhookEvent.kind).in_(RECORD_KINDS),
            col(WebhookEvent.source) == "webhook",  # a replay is no delivery
            or_(col(WebhookEvent.entity) == entity, col(WebhookEvent.entity).is_(None)),
        )
        .order_by(col(WebhookEvent.received_at), col(WebhookEvent.id))
        .limit(_AT_ONCE)
    )
    page = statement
    while True:
        rows = (await session.execute(page)).all()
        for _, received_at, body, body_keys, named in rows:
            for key in kept_keys(body, body_keys):
                yield key, received_at, named is not None
        if len(rows) < _AT_ONCE:
            return
        last = rows[-1]
        came = col(WebhookEvent.received_at)
        page = statement.where(
            came >= last.received_at, or_(came > last.received_at, col(WebhookEvent.id) > last.id)
        )
