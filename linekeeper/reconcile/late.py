"""Webhooks that came while their connection could not be read, of what a poll had found before."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.reconcile.deliveries import deferred_since
from linekeeper.reconcile.queries import LATE_DAYS, mark_announced
from linekeeper.store import Store
from linekeeper.store.lists import one_of
from linekeeper.store.tables import Change

LEFT_ALONE = timedelta(minutes=20)
"""So long a connection is not polled where it can't be read, or seldom is."""


def was_left_alone(polled_at: datetime | None, now: datetime) -> bool:
    """Whether it was not read for longer than polls are usually apart."""
    return polled_at is not None and now - polled_at > LEFT_ALONE


async def announce_deferred(
    store: Store,
    session: AsyncSession,
    connection_id: str,
    entity: str,
    *,
    since: datetime | None,
    started: datetime,
) -> None:
    """Settle what the deliveries deferred since `since` were about, by the listing of `started`.

    Where a record had not changed again, they announced the change before, late.
    """
    if since is None:
        return
    since = max(since, started - timedelta(days=LATE_DAYS))
    came = await deferred_since(session, connection_id, entity, since=since)
    if came:
        last = await _last_changes(store, session, connection_id, entity, came)
        late = {key: at for key, at in came.items() if key in last and last[key] < min(at, started)}
        await mark_announced(store, session, {(connection_id, entity): late})


async def _last_changes(
    store: Store,
    session: AsyncSession,
    connection_id: str,
    entity: str,
    keys: Mapping[str, datetime],
) -> dict[str, datetime]:
    """When the last change of each of these records was found."""
    rows = await session.execute(
        select(col(Change.key), col(Change.at))
        .where(
            col(Change.connection_id) == connection_id,
            col(Change.entity) == entity,
            one_of(store, Change.key, sorted(keys)),
        )
        .order_by(col(Change.seq))
    )
    return {row[0]: row[1] for row in rows}
