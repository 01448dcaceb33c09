"""Which connections are in a maintenance window, muted, or part of a pause of everything."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.incidents.suppressed import covers_member, windows_at
from linekeeper.store.engine import Store, chunked
from linekeeper.store.tables import Connection
from linekeeper.store.tables.alerts import PAUSE_WINDOW

MAINTENANCE, MUTE = "maintenance", "mute"
KINDS = (MAINTENANCE, MUTE, PAUSE_WINDOW)
"""Kinds of windows: planned work, what is not notified, the variable `linekeeper_paused`."""


async def in_window(store: Store, connection_ids: Sequence[str], now: datetime) -> set[str]:
    """Those of the connections that are in a maintenance window, or muted, at `now`."""
    async with store.read() as session:
        return set(await _covered_until(session, connection_ids, now, KINDS))


async def is_paused(session: AsyncSession, now: datetime) -> bool:
    """Whether everything was paused when Prefect was last asked (`linekeeper_paused`)."""
    windows = await windows_at(session, now, timedelta())
    return any(row.kind == PAUSE_WINDOW and now < window.ends_at for row, window in windows)


async def resting_until(
    session: AsyncSession, connection_ids: Sequence[str], now: datetime
) -> dict[str, datetime]:
    """Those in a maintenance window, or in a pause of everything, and until when.

    Their customers are not written to either: it is they who patch a system. A mute is about what
    we are notified ourselves.
    """
    return await _covered_until(session, connection_ids, now, (MAINTENANCE, PAUSE_WINDOW))


async def _covered_until(
    session: AsyncSession, connection_ids: Sequence[str], now: datetime, kinds: Collection[str]
) -> dict[str, datetime]:
    windows = [
        (row, window.ends_at)
        for row, window in await windows_at(session, now, timedelta())
        if now < window.ends_at and row.kind in kinds
    ]
    covered: dict[str, datetime] = {}
    for batch in chunked(connection_ids if windows else (), 5_000):
        rows = await session.execute(
            select(col(Connection.id), col(Connection.customer_id), col(Connection.provider)).where(
                col(Connection.id).in_(batch)
            )
        )
        for identifier, customer_id, provider in rows:
            member = (identifier, customer_id, provider)
            ends = [ends_at for row, ends_at in windows if covers_member(row, member)]
            if ends:
                covered[identifier] = max(ends)
    return covered
