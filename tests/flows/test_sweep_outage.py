"""A sweep that many connections do not answer ends before the next one begins."""

import pytest
from sqlalchemy import select

import sandbox
from flows.health_sweep import health_sweep
from linekeeper.clock import utcnow
from linekeeper.orchestrator import Blocks
from linekeeper.store import Store
from linekeeper.store.configuration import save_blocks
from linekeeper.store.tables import Incident
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.test_reconnect_flows import adopted
from tests.flows.test_sweep_flow import box, connections, managed_app

__all__ = ["box"]  # fixtures
pytestmark = [
    on_both,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.usefixtures("impatient"),
]

STATUS = ("GET", "/api/integrations/current")


async def test_calls_that_hang_are_made_once_a_sweep_and_the_third_miss_is_unreachable(
    running: Running, clean_prefect: PrefectServer, store: Store, box: sandbox.Served
) -> None:
    await adopted()
    app = managed_app(box, name="default", per_minute=0, timeout_seconds=0.3)
    await save_blocks(store, Blocks(apps=[app]), now=utcnow())
    for connection in box.world.connections.values():
        connection.slow_seconds = 60.0
    for expected in ("healthy", "healthy", "unreachable"):
        before = box.world.calls[STATUS]
        with on(clean_prefect):
            await health_sweep(return_state=True)
        assert await running.probe_tries() == [1]
        assert box.world.calls[STATUS] - before == 6
        assert {connection.health for connection in await connections(store)} == {expected}
    async with store.read() as session:
        [incident] = await session.scalars(select(Incident))
    assert (incident.kind, incident.scope) == ("unreachable", "app")


async def test_a_connection_that_missed_before_is_asked_once_a_sweep(
    running: Running, clean_prefect: PrefectServer, store: Store, box: sandbox.Served
) -> None:
    """A refusal that comes at once may be over a few seconds later, but only the first time."""
    await adopted()
    for connection in box.world.connections.values():
        connection.offline = True
    asked = []
    for _ in range(3):
        with on(clean_prefect):
            await health_sweep(return_state=True)
        asked += await running.probe_tries()
    assert asked == [3, 1, 1]
    assert {connection.health for connection in await connections(store)} == {"unreachable"}
