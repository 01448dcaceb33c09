"""The connections to PostgreSQL: no more than the setting allows, and each asked for a word."""

import asyncio

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

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

        async def look(session: AsyncSession) -> int:
            await session.execute(text("SELECT pg_sleep(0.2)"))
            return int(await session.scalar(text(OURS)) or 0)

        async def read() -> int:
            async with store.read() as session:
                return await look(session)

        async def write() -> int:
            async with store.write() as session:
                return await look(session)

        seen = await asyncio.gather(*(read() for _ in range(6)), *(write() for _ in range(6)))
        assert max(seen) == 4


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_a_session_after_a_restart_of_the_database_takes_another_connection(
    store: Store,
) -> None:
    async def look() -> int:
        async with store.read() as session:
            return int(await session.scalar(text("SELECT pg_backend_pid()")) or 0)

    first = await look()
    assert await look() == first
    url = store.engine.url.set(drivername="postgresql")
    other = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        assert await other.fetchval("SELECT pg_terminate_backend($1, 10000)", first)
    finally:
        await other.close()
    assert await look() != first


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_whether_the_connection_lives_is_one_round_trip(store: Store) -> None:
    asked: list[str] = []
    async with store.read() as session:
        driver = (await (await session.connection()).get_raw_connection()).driver_connection
    assert isinstance(driver, asyncpg.Connection)
    driver.add_query_logger(lambda record: asked.append(record.query.partition(" ")[0]))
    async with store.read() as session:
        await session.execute(text("SELECT 1"))
    assert asked == ["SELECT", "BEGIN;", "ROLLBACK;"]  # and the prepared statement
