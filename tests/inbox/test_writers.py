"""The intake of webhooks over a connection to PostgreSQL that ended meanwhile."""

import asyncio

import asyncpg
import pytest

from linekeeper.clock import utcnow
from linekeeper.inbox.identify import identify, make_delivery
from linekeeper.inbox.intake import Intake
from linekeeper.inbox.meaning import EventNames
from linekeeper.store import Store, new_id
from tests.inbox.process.stage import NO_HEADERS


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_the_first_delivery_after_a_restart_of_the_database_is_stored(store: Store) -> None:
    names = EventNames(("eam/assets",), {})

    async def deliver(intake: Intake, body: bytes) -> bool:
        identity = identify("default", names, NO_HEADERS, "k1", body, now=utcnow())
        delivery = make_delivery(new_id(), "default", identity, body, received_at=utcnow())
        return (await intake.store(delivery)).is_new

    async with Intake.open(store) as intake:
        assert await deliver(intake, b'{"event":"assets.updated","id":"1","body":["a-1"]}')
        url = store.engine.url.set(drivername="postgresql")
        other = await asyncpg.connect(url.render_as_string(hide_password=False))
        try:
            await other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        finally:
            await other.close()
        await asyncio.sleep(0.5)  # the news of it is on its way
        assert await deliver(intake, b'{"event":"assets.updated","id":"2","body":["a-1"]}')
