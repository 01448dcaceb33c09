"""Forgetting what a connection's system holds: on disconnect, and on request."""

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.successors import HEIR_WITHIN
from linekeeper.store import Store
from linekeeper.store.tables import (
    Change,
    Connection,
    Deletion,
    Record,
    Succession,
    SuccessionStep,
    Transition,
    Watermark,
    WebhookTrust,
)

MISSING_FOR = HEIR_WITHIN
"""How long a connection that Makini no longer lists may come back as it was, or be succeeded."""


async def purge(session: AsyncSession, connection_id: str, *, keeps_feed: bool = False) -> int:
    """Remove the index, bodies and feed of a connection; how many records went.

    With `keeps_feed` what the product may still have to read of it stays.

    In the caller's transaction. What was counted (`drift`) stays; reading it again begins with a
    new baseline. The numbering of its changes goes on, so that no cursor meets a number twice.
    """
    gone = await session.execute(delete(Record).where(col(Record.connection_id) == connection_id))
    for table in (Change, Deletion, Watermark, WebhookTrust, SuccessionStep, Succession):
        if keeps_feed and table is Change:
            continue
        await session.execute(delete(table).where(col(table.connection_id) == connection_id))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a delete gives a cursor result


async def purge_disconnected(store: Store, *, now: datetime) -> int:
    """Forget what every disconnected connection's system held; how many connections had any.

    One that is only missing from Makini's list is waited for 30 days: it may be the list that
    errs, or its customer who logs in again. What a successor has yet to take over stays as long,
    and so does the feed of one that was replaced: the product may not have read it all.
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
    awaited = (
        select(Succession)
        .where(
            col(Succession.predecessor_id) == col(Connection.id),
            col(Succession.status) != "done",
            col(Succession.created_at) > now - HEIR_WITHIN,
        )
        .exists()
    )
    async with store.read() as session:
        rows = (
            await session.execute(
                select(col(Connection.id), col(Connection.replaced_by)).where(
                    col(Connection.setup) == "disconnected",
                    ~missing | col(Connection.replaced_by).is_not(None),
                    ~awaited,
                    select(Record).where(col(Record.connection_id) == col(Connection.id)).exists()
                    | select(Watermark)
                    .where(col(Watermark.connection_id) == col(Connection.id))
                    .exists(),
                )
            )
        ).all()
    for identifier, replaced_by in rows:
        async with store.write() as session:
            await purge(session, identifier, keeps_feed=replaced_by is not None)
    return len(rows)
