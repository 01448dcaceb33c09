"""A vantage belongs to the worker that has it: preflight on a server with several workers."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import WorkQueueStatus
from sqlmodel import select

from flows.implementation import implementation
from flows.preflight import preflight
from linekeeper.clock import utcnow
from linekeeper.store import Store
from linekeeper.store.tables import Incident
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.test_implementation_flows import begin_implementation, outcome, stored
from tests.preflight.door import Door, door

__all__ = ["door"]
pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]
POOL, QUEUE = "linekeeper", "vantage-dmz"


async def runs_for(running: Running, *queues: str) -> list[str]:
    """The names of the runs that a worker which polls `queues` is given."""
    given = await running.client.get_scheduled_flow_runs_for_work_pool(
        POOL, list(queues), utcnow() + timedelta(seconds=10)
    )
    return [entry.flow_run.name for entry in given]


async def test_the_daily_preflight_asks_the_open_place_that_it_was_given(
    running: Running, store: Store, clean_prefect: PrefectServer, door: Door
) -> None:
    """The worker reaches no other: without it nobody could tell that a port is closed."""
    open_place = Door()
    open_place.open()
    given: dict[str, Any] = {"control": open_place.target, "timeout": 1, "return_state": True}
    with on(clean_prefect):
        await begin_implementation()
        proved = await preflight("Acme", [door.target], vantage="outside", **given)
        assert outcome(proved)[0] == "Completed"
        door.open()
        assert outcome(await preflight(**given))[0] == "Failed"
        door.close()
        assert outcome(await preflight(**given))[0] == "Completed"
    open_place.leave()
    [incident] = await stored(store, select(Incident))
    assert incident.status == "resolved"


async def test_the_daily_preflight_goes_to_the_worker_that_has_the_vantage(
    running: Running,
    clean_prefect: PrefectServer,
    door: Door,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = running.client
    await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    await client.create_work_queue("bulk", work_pool_name=POOL)
    flow_id = await client.create_flow_from_name("preflight")
    await client.create_deployment(
        flow_id, "preflight", work_pool_name=POOL, work_queue_name="bulk"
    )
    door.open()
    with on(clean_prefect):
        monkeypatch.setenv("LINEKEEPER_WORKER", "dmz")
        await implementation(
            customer="Acme",
            systems=[{"name": "SAP ECC"}],
            kickoff=utcnow().date(),
            by="Olaf",
            owner="Petra",
            complexity="enterprise",
            hosting="on-premises",
            return_state=True,
        )
        checked = await preflight("Acme", [door.target], timeout=1, return_state=True)
        assert outcome(checked)[0] == "Completed"

        monkeypatch.setenv("LINEKEEPER_WORKER", "office")
        name, message = outcome(await preflight(timeout=1, return_state=True))
        assert name == "Skipped"
        assert "the worker dmz proved, as no worker polls the queue vantage-dmz" in message

        await client.create_work_queue(QUEUE, work_pool_name=POOL)

        async with asyncio.timeout(60):  # a worker polls it, as `prefect worker` does
            while True:
                await runs_for(running, QUEUE)
                queue = await client.read_work_queue_by_name(QUEUE, work_pool_name=POOL)
                if queue.status is WorkQueueStatus.READY:
                    break
                await asyncio.sleep(0.5)
        for _ in range(2):
            name, message = outcome(await preflight(timeout=1, return_state=True))
            assert (name, message.endswith("; sent to dmz")) == ("Skipped", True)
        assert await runs_for(running, "bulk") == []
        assert await runs_for(running, QUEUE) == ["preflight · dmz"]

        name, message = outcome(await preflight(worker="dmz", timeout=1, return_state=True))
        assert name == "Skipped"
        assert "belongs to the worker dmz, and this is office" in message
        monkeypatch.setenv("LINEKEEPER_WORKER", "dmz")
        name, message = outcome(await preflight(worker="dmz", timeout=1, return_state=True))
        assert (name, message) == ("Completed", "1 checked, 0 findings")
    door.close()
