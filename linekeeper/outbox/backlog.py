"""What waits in the outbox, since when, and what is planned for later, channel by channel."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.outbox.queue import DUE_SINCE, OUTBOX


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
