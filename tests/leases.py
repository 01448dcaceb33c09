"""Who holds a lease."""

from datetime import datetime

from sqlalchemy import select
from sqlmodel import col

from linekeeper.store import Store
from linekeeper.store.tables import Lease


async def holder(store: Store, name: str, *, now: datetime) -> str | None:
    """Who holds `name` at `now`; None if nobody does."""
    async with store.read() as session:
        return await session.scalar(
            select(col(Lease.owner)).where(col(Lease.name) == name, col(Lease.until) > now)
        )
