"""Telling that one transaction waits for another."""

import asyncio

from sqlalchemy import text

from linekeeper.store import Store

_WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def somebody_waits(store: Store, at_least: int = 1) -> None:
    """PostgreSQL: until so many transactions wait; SQLite lets nobody begin meanwhile."""
    async with asyncio.timeout(60):
        while not store.is_sqlite:
            async with store.read() as session:
                if (await session.scalar(text(_WAITING)) or 0) >= at_least:
                    return
            await asyncio.sleep(0.02)
