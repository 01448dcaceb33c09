"""What waits in the outbox, since when, and what is planned for later, channel by channel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.outbox.queue import DUE_SINCE, OUTBOX
from linekeeper.store import Store
from linekeeper.store.engine import chunked


@dataclass(frozen=True, slots=True)
class Backlog:
    """Messages of one channel."""

    pending: int = 0
    """Those that were due, whatever was tried since."""
    oldest_at: datetime | None = None
    """Since when the first of them was due."""
    planned: int = 0
    """Those written for a time to come."""
    dead: int = 0


async def read_backlog(session: AsyncSession, *, now: datetime) -> Mapping[str, Backlog]:
    """Return the backlog of the channels that have any, by channel."""
    table = OUTBOX.c
    dead = table.status == "dead"
    planned = ~dead & table.due_at.is_not(None) & (table.due_at > now)
    waits = ~dead & (table.due_at.is_(None) | (table.due_at <= now))
    rows = await session.execute(
        select(
            table.channel,
            func.sum(case((waits, 1), else_=0)),
            func.min(case((waits, DUE_SINCE))),
            func.sum(case((planned, 1), else_=0)),
            func.sum(case((dead, 1), else_=0)),
        )
        .where(table.status.in_(("pending", "dead")))
        .group_by(table.channel)
        .order_by(table.channel)
    )
    return {
        channel: Backlog(int(pending), oldest, int(later), int(given_up))
        for channel, pending, oldest, later, given_up in rows
    }


async def why_not_delivered(store: Store, ordering_keys: Sequence[str]) -> list[str]:
    """Why messages of `ordering_keys` are not delivered: one reason for each that waits or died."""
    table, reasons = OUTBOX.c, list[str]()
    async with store.read() as session:
        for chunk in chunked(ordering_keys, 500):
            rows = await session.execute(
                select(table.status, table.error).where(
                    table.ordering_key.in_(chunk), table.status.in_(("pending", "dead"))
                )
            )
            reasons += [error or f"it is {status}" for status, error in rows]
    return reasons
