"""A run is tagged `waiting:customer` while a customer is waited for: people filter by it."""

from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Crashed, Failed, Suspended
from sqlalchemy import delete

import sandbox
from flows.reconnect import reconnect
from linekeeper.clock import utcnow
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import ConnectLink, Incident, PendingLogin
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
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


@pytest.mark.repeats(
    "e2e/test_reconnect.py::test_credentials_change_and_the_customer_logs_in_again",
    "flows/test_waiting_tags.py::test_a_run_that_is_over_without_its_own_doing_waits_for_nobody_either",
)
async def test_a_reconnect_waits_for_the_customer_until_they_have_logged_in(
    running: Running, clean_prefect: PrefectServer, store: Store, fleet: sandbox.Served
) -> None:
    connection = await lost(store, fleet)
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


async def test_a_run_that_is_over_without_its_own_doing_waits_for_nobody_either(
    running: Running, clean_prefect: PrefectServer
) -> None:
    async def in_state(state: State[None], *more: str) -> UUID:
        flow_id = await running.client.create_flow_from_name("reconnect")
        ours = ["linekeeper", "connection:acme", *more]
        run = await running.client.create_flow_run(reconnect, tags=ours)
        assert run.flow_id == flow_id
        await running.client.set_flow_run_state(run.id, state, force=True)
        return run.id

    over = [
        await in_state(Crashed(), TAG),
        await in_state(Cancelled(), "waiting:us"),
        await in_state(Failed(), "waiting:makini"),
    ]
    waits = await in_state(Suspended(timeout_seconds=86_400), TAG)
    with on(clean_prefect):
        settings = Settings(prefect_port=clean_prefect.port)
        async with PrefectOrchestrator.open(settings) as orchestrator:
            await orchestrator.look_after_lost_runs()
    for run_id in over:
        assert await tags(running, run_id) == {"linekeeper", "connection:acme"}
    assert await tags(running, waits) == {"linekeeper", "connection:acme", TAG}
