"""Forgetting what a connection's system holds: on disconnect, and on request."""

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.store import Store
from linekeeper.store.tables import Change, Connection, Deletion, Record, Watermark, WebhookTrust


async def purge(session: AsyncSession, connection_id: str) -> int:
    """Remove the index, bodies and feed of a connection; how many records went.

    In the caller's transaction. What was counted (`drift`) stays; reading it again begins with a
    new baseline. The numbering of its changes goes on, so that no cursor meets a number twice.
    """
    gone = await session.execute(delete(Record).where(col(Record.connection_id) == connection_id))
    for table in (Change, Deletion, Watermark, WebhookTrust):
        await session.execute(delete(table).where(col(table.connection_id) == connection_id))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a delete gives a cursor result


async def purge_disconnected(store: Store) -> int:
    """Forget what every disconnected connection's system held; how many connections had any."""
    async with store.read() as session:
        ids = list(
            await session.scalars(
                select(col(Connection.id)).where(
                    col(Connection.setup) == "disconnected",
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
