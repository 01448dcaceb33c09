"""A sweep whose list fails, waits or looks truncated, as Prefect runs it."""

from datetime import timedelta

import pytest
from sqlalchemy import select

import sandbox
from flows.adopt import adopt
from flows.health_sweep import health_sweep
from linekeeper.budget import DatabaseBudget
from linekeeper.clock import utcnow
from linekeeper.orchestrator import Blocks
from linekeeper.store import Store
from linekeeper.store.configuration import save_blocks
from linekeeper.store.tables import Incident
from tasks.health import list_connections
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.test_reconnect_flows import adopted
from tests.flows.test_sweep_flow import box, connections, managed_app

__all__ = ["box"]  # fixtures
pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]


async def test_a_list_that_fails_is_red_the_first_time_and_nobody_is_well_by_it(
    running: Running, clean_prefect: PrefectServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINEKEEPER_MAKINI_CLIENT_ID", "wrong")
    monkeypatch.setenv("LINEKEEPER_MAKINI_CLIENT_SECRET", "wrong")
    settings = sandbox.Settings(port=0, connections=2, scenario="quiet")
    async with sandbox.serving(settings) as serving:
        monkeypatch.setenv("LINEKEEPER_MAKINI_API_URL", serving.url)
        with on(clean_prefect):
            state = await health_sweep(return_state=True)
    assert state.name == "Failed"
    assert "app default: the list failed" in (state.message or "")
    assert "wrong" not in (state.message or "")
    assert (await running.last()).name.startswith("sweep · could not do its work")
    assert await connections(store) == []


@pytest.mark.repeats(
    "health/test_absence.py::test_a_list_that_lacks_more_than_half_looks_truncated",
    "health/test_absence.py::test_what_is_accepted_as_gone_is_no_incident_any_more",
    "flows/test_sweep_flow.py::test_red_means_new",
)
async def test_a_truncated_list_is_red_once_and_a_person_decides(
    running: Running, clean_prefect: PrefectServer, store: Store, box: sandbox.Served
) -> None:
    async def swept() -> tuple[str, str]:
        state = await health_sweep(return_state=True)
        return state.name or "", (await running.last()).name

    await adopted()
    with on(clean_prefect):
        box.world.connections.clear()
        assert await swept() == ("Failed", "sweep · 1 new problem")
        assert await swept() == ("Completed", "sweep · 1 known")
        assert {connection.setup for connection in await connections(store)} == {"live"}
        state = await adopt(dry_run=False, return_state=True)
        assert "6 of 6 known connections are missing. Nothing was changed" in (state.message or "")
        await adopt(dry_run=False, accept_missing=True, return_state=True)
        assert {connection.setup for connection in await connections(store)} == {"disconnected"}
        assert await swept() == ("Completed", "sweep · no trouble known")


@pytest.mark.repeats(
    "health/test_absence_asked.py::test_a_refused_call_of_a_connection_that_the_list_lacks_is_no_lost_login"
)
async def test_connections_that_vanish_from_a_truncated_list_ask_no_customer_to_log_in(
    running: Running, clean_prefect: PrefectServer, store: Store, box: sandbox.Served
) -> None:
    await adopted()
    for connection in list(box.world.connections.values())[:5]:
        box.world.remove(connection)  # their tokens are refused from now on
    for _ in range(2):
        await adopted()
    with on(clean_prefect):
        await health_sweep(return_state=True)
    assert {connection.setup for connection in await connections(store)} == {"live"}
    healths = sorted(connection.health for connection in await connections(store))
    assert healths == ["healthy", *["unknown"] * 5]
    async with store.read() as session:
        kinds = set(await session.scalars(select(Incident.kind)))
    assert "list_truncated" in kinds
    assert "reauthorization_required" not in kinds


AGAIN = pytest.mark.repeats(
    "flows/test_sweep_flow_list.py"
    "::test_a_list_that_waits_too_long_has_failed_and_the_others_are_swept"
)


@pytest.mark.parametrize(
    ("pause", "seconds", "says"),
    [
        (timedelta(minutes=40), None, "a pause that is not over"),
        pytest.param(timedelta(seconds=50), 1.0, "did not answer in time", marks=AGAIN),
    ],
)
async def test_a_list_that_waits_too_long_has_failed_and_the_others_are_swept(
    running: Running,
    clean_prefect: PrefectServer,
    store: Store,
    box: sandbox.Served,
    monkeypatch: pytest.MonkeyPatch,
    pause: timedelta,
    seconds: float | None,
    says: str,
) -> None:
    well = managed_app(box, name="well", per_minute=0)
    paused = well.model_copy(update={"name": "paused", "per_minute": 600})
    await save_blocks(store, Blocks(apps=[well, paused]), now=utcnow())
    await DatabaseBudget(store).penalise("paused", utcnow() + pause)
    if seconds is not None:
        shorter = list_connections.with_options(timeout_seconds=seconds)
        monkeypatch.setattr("flows.health_sweep.list_connections", shorter)
    with on(clean_prefect):
        state = await health_sweep(return_state=True)
    assert state.name == "Failed"
    assert says in (state.message or "")
    assert "6 checked" in (state.message or "")
    assert (await running.last()).name == "sweep · could not do its work, 1 new problem"
    async with store.read() as session:
        [incident] = await session.scalars(select(Incident))
    assert (incident.kind, incident.app) == ("list_failed", "paused")
