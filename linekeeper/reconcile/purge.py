"""Forgetting what a connection's system holds: on disconnect, and on request."""

from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.store import Store
from linekeeper.store.tables import (
    Change,
    Connection,
    Deletion,
    Record,
    Transition,
    Watermark,
    WebhookTrust,
)

MISSING_FOR = timedelta(days=1)
"""How long a connection that Makini no longer lists may come back as it was."""


async def purge(session: AsyncSession, connection_id: str) -> int:
    """Remove the index, bodies and feed of a connection; how many records went.

    In the caller's transaction. What was counted (`drift`) stays; reading it again begins with a
    new baseline. The numbering of its changes goes on, so that no cursor meets a number twice.
    """
    gone = await session.execute(delete(Record).where(col(Record.connection_id) == connection_id))
    for table in (Change, Deletion, Watermark, WebhookTrust):
        await session.execute(delete(table).where(col(table.connection_id) == connection_id))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a delete gives a cursor result


async def purge_disconnected(store: Store, *, now: datetime) -> int:
    """Forget what every disconnected connection's system held; how many connections had any.

    One that is only missing from Makini's list is waited for a day: it may be the list that errs.
    """
    missing = (
        select(Transition)
        .where(
            col(Transition.connection_id) == col(Connection.id),
            col(Transition.axis) == "setup",
            col(Transition.after) == "disconnected",
            col(Transition.source) == "list",
            col(Transition.at) > now - MISSING_FOR,
        )
        .exists()
    )
    async with store.read() as session:
        ids = list(
            await session.scalars(
                select(col(Connection.id)).where(
                    col(Connection.setup) == "disconnected",
                    ~missing,
                    select(Record).where(col(Record.connection_id) == col(Connection.id)).exists()
                    | select(Watermark)
                    .where(col(Watermark.connection_id) == col(Connection.id))
                    .exists(),
                )
            )
        )
    for identifier in ids:
        async with store.write() as session:
            await purge(session, identifier)
    return len(ids)
