"""What somebody has taken before a sweep met it turns no sweep red."""

import pytest
from prefect.client.schemas.objects import State
from sqlalchemy import select

from flows.acknowledge import acknowledge
from flows.check_connection import check_connection
from flows.health_sweep import health_sweep
from linekeeper.store import Store
from linekeeper.store.tables import Incident
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.test_reconnect_flows import adopted
from tests.flows.test_sweep_flow import Control, box, connections, control, failed_tasks

__all__ = ["box", "control"]
pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]


@pytest.mark.parametrize("snooze", ["no", pytest.param("4 hours", marks=pytest.mark.soak)])
@pytest.mark.repeats(
    "health/test_sweep.py::test_red_means_new",
    "flows/test_sweep_flow.py::test_red_means_new",
)
async def test_a_sweep_is_not_red_for_what_somebody_acknowledged_before_it(
    running: Running, clean_prefect: PrefectServer, store: Store, control: Control, snooze: str
) -> None:
    async def sweep() -> State[None]:
        with on(clean_prefect):
            state: State[None] = await health_sweep(return_state=True)
        return state

    await adopted()
    victim, other, *_ = await connections(store)
    await control(f"connections/{victim.makini_key}/change-credentials")
    with on(clean_prefect):
        await check_connection(victim.id, return_state=True)
    async with store.read() as session:
        [incident] = await session.scalars(select(Incident))
    with on(clean_prefect):
        await acknowledge(incident.id, "Petra", snooze, return_state=True)
    state = await sweep()
    assert state.is_completed(), state.message
    assert (await running.last()).name == "sweep · 1 known"
    await control(f"connections/{other.makini_key}/change-credentials")
    state = await sweep()
    assert state.is_failed()
    assert len(await failed_tasks(running)) == 1
    assert (await running.last()).name == "sweep · 1 new problem, 1 known"
