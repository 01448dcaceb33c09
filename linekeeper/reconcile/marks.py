"""Watermarks in the database."""

from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.store import Store
from linekeeper.store.tables import Watermark
from linekeeper.store.upsert import insert_or_update


async def load_marks(store: Store, connection_id: str) -> dict[str, Watermark]:
    """How far each entity has been read that somebody tried."""
    async with store.read() as session:
        rows = await session.scalars(
            select(Watermark).where(col(Watermark.connection_id) == connection_id)
        )
        return {row.entity: row for row in rows}


async def save_mark(
    store: Store, session: AsyncSession, connection_id: str, entity: str, **values: Any
) -> None:
    """Set `values` of the watermark, made if there is none."""
    row = {"connection_id": connection_id, "entity": entity, "offered": True, "filtered": True}
    await insert_or_update(
        store,
        session,
        Watermark,
        [{**row, **values}],
        key=["connection_id", "entity"],
        update=list(values),
    )


async def note_not_offered(store: Store, connection_id: str, entity: str, *, now: datetime) -> None:
    """This system doesn't have `entity`: asked again with the next full listing."""
    async with store.write() as session:
        await save_mark(
            store, session, connection_id, entity,
            offered=False, polled_at=now, full_at=now, confirm_at=None, error=None,
        )  # fmt: skip


async def note_failure(store: Store, connection_id: str, entity: str, error: str) -> None:
    """The last attempt failed; the watermark stays where it is."""
    async with store.write() as session:
        await save_mark(store, session, connection_id, entity, error=error[:500])
