"""A run is tagged `waiting:customer` while a customer is waited for: people filter by it."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete

import sandbox
from flows.reconnect import reconnect
from linekeeper.clock import utcnow
from linekeeper.store import Store
from linekeeper.store.tables import ConnectLink, Incident, PendingLogin
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import begin, work
from tests.flows.test_reconnect_flows import fleet, lost, rows, swept

__all__ = ["fleet"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    on_both,
]
TAG = "waiting:customer"


async def tags(running: Running, run_id: UUID) -> set[str]:
    return set((await running.client.read_flow_run(run_id)).tags)


async def keep_a_login(store: Store) -> None:
    """As when somebody logs in and Makini can't say yet whose login that is."""
    [link] = await rows(store, ConnectLink)
    kept: dict[str, Any] = {"link_id": link.id, "by": "Pat", "access_token": "sealed"}
    now = utcnow()
    async with store.write() as session:
        session.add(PendingLogin(**kept, received_at=now, retry_at=now))


async def test_a_reconnect_waits_for_the_customer_until_they_have_logged_in(
    running: Running, clean_prefect: PrefectServer, store: Store, fleet: sandbox.Served
) -> None:
    connection = await lost(store, clean_prefect, fleet)
    [incident] = await rows(store, Incident)
    found = fleet.world.find(connection.makini_key)
    assert found is not None
    with on(clean_prefect):
        run = await begin(running, reconnect, incident=incident.id)
        assert TAG in await tags(running, run.id)

        await keep_a_login(store)
        await swept(clean_prefect)
        now = await tags(running, run.id)
        assert TAG not in now
        assert f"connection:{connection.slug}" in now

        async with store.write() as session:
            await session.execute(delete(PendingLogin))  # it was another system's
        await swept(clean_prefect)
        assert TAG in await tags(running, run.id)

        fleet.world.mend(found)
        await swept(clean_prefect)
        await running.client.resume_flow_run(run.id, run_input={"by": "linekeeper"})
        run = await work(running, reconnect, run.id)
        assert run.state is not None
        assert run.state.name == "Reconnected", run.state
    assert f"connection:{connection.slug}" in run.tags
    assert TAG not in run.tags
