"""A process holds no more connections to PostgreSQL than the setting allows."""

import asyncio

from sqlalchemy import text

from linekeeper.settings import Settings
from linekeeper.store import Store
from tests.databases import Engine

OURS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"


async def test_what_needs_more_connections_than_there_may_be_waits(
    engine: Engine, settings: Settings
) -> None:
    few = settings.model_copy(update={"database_pool": 4})
    async with Store.open(few) as store:
        if store.is_sqlite:
            return  # each of its connections is a file opened

        async def look() -> int:
            async with store.read() as session:
                await session.execute(text("SELECT pg_sleep(0.2)"))
                return int(await session.scalar(text(OURS)) or 0)

        seen = await asyncio.gather(*(look() for _ in range(12)))
        assert max(seen) == 4
