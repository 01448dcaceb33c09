"""Telling that one transaction waits for another."""

import asyncio

from sqlalchemy import text

from linekeeper.store import Store

_WAITING = """
SELECT 1 FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' LIMIT 1
"""


async def somebody_waits(store: Store) -> None:
    """PostgreSQL: until a transaction waits for another; SQLite lets nobody begin meanwhile."""
    async with asyncio.timeout(60):
        while not store.is_sqlite:
            async with store.read() as session:
                if await session.scalar(text(_WAITING)):
                    return
            await asyncio.sleep(0.02)
