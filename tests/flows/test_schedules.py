"""A clock that was ahead: what Prefect planned by it keeps no sweep from being planned for now."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.states import Cancelled, Completed, Crashed, Failed, Late, Pending, Scheduled

from linekeeper.cli.progress import are_runs_under_way
from linekeeper.clock import utcnow
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tasks.prefect_adapter.schedules import is_put_off, leaves_out
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SWEEPS = IntervalSchedule(interval=timedelta(minutes=5), anchor_date=utcnow() - 30 * DAY)
UNDER_WAY = FlowRunFilter(
    state=FlowRunFilterState(
        type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING])
    )
)
DIGESTS = CronSchedule(cron="0 7 * * *", timezone="UTC")


async def deployed(
    running: Running, schedule: IntervalSchedule | CronSchedule, *, ahead: timedelta
) -> tuple[UUID, str]:
    """A deployment that Prefect planned while its clock was so far ahead; and its name."""
    flow_id = await running.client.create_flow_from_name("health-sweep")
    name = f"ahead-{uuid4().hex[:8]}"
    deployment = await running.client.create_deployment(
        flow_id,
        name,
        tags=["linekeeper"],
        schedules=[DeploymentScheduleCreate(schedule=schedule, active=True)],
    )
    await running.client.request(
        "POST",
        "/deployments/{id}/schedule",
        path_params={"id": deployment},
        json={"start_time": (utcnow() + ahead).isoformat()},
    )
    return deployment, name


async def runs_of(running: Running, deployment: UUID) -> list[tuple[UUID, datetime, StateType]]:
    """Its runs: id, when it is due, what it does; the first due first."""
    runs = await running.client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])), limit=200
    )
    listed = [
        (run.id, run.expected_start_time, run.state.type)
        for run in runs
        if run.state and run.expected_start_time
    ]
    return sorted(listed, key=lambda run: run[1])


async def due(running: Running, deployment: UUID) -> list[datetime]:
    return [run[1] for run in await runs_of(running, deployment)]


async def test_runs_are_planned_for_now_where_prefect_planned_tomorrows(running: Running) -> None:
    deployment, name = await deployed(running, SWEEPS, ahead=DAY)
    orchestrator = PrefectOrchestrator(running.client)
    assert name in await orchestrator.plan_again()
    planned = await due(running, deployment)
    assert planned[0] - utcnow() < timedelta(minutes=6)
    assert len(planned) == len(set(planned))
    assert name not in await orchestrator.plan_again()
    assert await due(running, deployment) == planned


async def test_a_run_that_somebody_cancelled_is_not_planned_again(running: Running) -> None:
    deployment, _ = await deployed(running, SWEEPS, ahead=timedelta())
    [first, *rest] = await runs_of(running, deployment)
    await running.client.set_flow_run_state(first[0], Cancelled(), force=True)
    await PrefectOrchestrator(running.client).plan_again()
    assert await runs_of(running, deployment) == [(*first[:2], StateType.CANCELLED), *rest]


AGAIN = pytest.mark.repeats(
    "flows/test_schedules.py::test_dates_whose_runs_came_to_their_end_by_that_clock_are_planned"
)


@pytest.mark.parametrize(
    "ended",
    [
        pytest.param(Completed(name="Skipped"), id="skipped", marks=AGAIN),
        pytest.param(Completed(), id="well"),
        pytest.param(Crashed(), id="crashed", marks=AGAIN),
    ],
)
async def test_dates_whose_runs_came_to_their_end_by_that_clock_are_planned(
    running: Running, ended: State[None]
) -> None:
    """It was right, was a day ahead for a while, and is right again."""
    deployment, name = await deployed(running, SWEEPS, ahead=timedelta())
    dates = await due(running, deployment)
    for run in await runs_of(running, deployment):
        await running.client.set_flow_run_state(run[0], ended, force=True)
    await running.client.request(
        "POST",
        "/deployments/{id}/schedule",
        path_params={"id": deployment},
        json={"start_time": (utcnow() + DAY).isoformat()},
    )
    assert name in await PrefectOrchestrator(running.client).plan_again()
    again = [run for run in await runs_of(running, deployment) if run[1] in dates]
    assert [run[1] for run in again] == dates
    assert {run[2] for run in again} == {StateType.SCHEDULED}


async def test_a_run_that_failed_by_what_it_found_is_kept(running: Running) -> None:
    deployment, _ = await deployed(running, SWEEPS, ahead=timedelta())
    [first, *rest] = await runs_of(running, deployment)
    await running.client.set_flow_run_state(first[0], Failed(), force=True)
    for run in rest:
        await running.client.delete_flow_run(run[0])
    await running.client.request(
        "POST",
        "/deployments/{id}/schedule",
        path_params={"id": deployment},
        json={"start_time": (utcnow() + DAY).isoformat()},
    )
    await PrefectOrchestrator(running.client).plan_again()
    assert (*first[:2], StateType.FAILED) in await runs_of(running, deployment)


async def test_a_run_that_was_started_by_that_clock_is_due_now(running: Running) -> None:
    deployment, _ = await deployed(running, SWEEPS, ahead=timedelta())
    tomorrow = utcnow() + DAY
    put_off, wanted = [
        await running.client.create_flow_run_from_deployment(
            deployment, state=Scheduled(scheduled_time=tomorrow), tags=["linekeeper"]
        )
        for _ in range(2)
    ]
    await running.client.set_flow_run_state(put_off.id, Late(scheduled_time=tomorrow), force=True)
    await PrefectOrchestrator(running.client).plan_again()
    now_due = (await running.client.read_flow_run(put_off.id)).next_scheduled_start_time
    assert now_due is not None
    assert now_due < tomorrow - HOUR
    still = (await running.client.read_flow_run(wanted.id)).next_scheduled_start_time
    assert still is not None
    assert abs(still - tomorrow) < timedelta(seconds=1)


def test_what_is_put_off_was_stated_by_a_clock_that_was_ahead() -> None:
    now = utcnow()
    tomorrow = now + DAY
    state = Scheduled(scheduled_time=tomorrow)
    assert not is_put_off(state, tomorrow, now=now)
    state = state.model_copy(update={"timestamp": tomorrow})
    assert is_put_off(state, tomorrow, now=now)
    assert not is_put_off(state, tomorrow + HOUR, now=now)
    assert not is_put_off(state, tomorrow, now=tomorrow)


async def test_what_is_paused_is_not_planned(running: Running) -> None:
    deployment, name = await deployed(running, SWEEPS, ahead=DAY)
    await running.client.pause_deployment(deployment)
    await running.client.request(
        "POST",
        "/deployments/{id}/schedule",
        path_params={"id": deployment},
        json={"start_time": (utcnow() + DAY).isoformat()},
    )
    before = await due(running, deployment)
    assert name not in await PrefectOrchestrator(running.client).plan_again()
    assert await due(running, deployment) == before


async def test_a_digest_is_planned_for_its_next_morning(running: Running) -> None:
    deployment, name = await deployed(running, DIGESTS, ahead=2 * DAY)
    assert name in await PrefectOrchestrator(running.client).plan_again()
    planned = await due(running, deployment)
    assert planned[0] - utcnow() <= DAY
    assert [each.hour for each in planned] == [7] * len(planned)


def test_what_is_planned_as_it_should_be_leaves_out_nothing() -> None:
    now = utcnow()
    assert not leaves_out([], now=now)
    assert not leaves_out([now + HOUR, now + 2 * HOUR, now + 3 * HOUR], now=now)
    assert not leaves_out([now - 2 * HOUR, now - HOUR, now + HOUR], now=now)
    assert leaves_out([now + 5 * HOUR, now + 4 * HOUR, now + 3 * HOUR], now=now)


async def test_it_is_seen_whether_a_run_is_under_way(
    running: Running, clean_prefect: PrefectServer
) -> None:
    for left in await running.client.read_flow_runs(flow_run_filter=UNDER_WAY):
        await running.client.delete_flow_run(left.id)  # another test's, which was killed perhaps
    deployment, _ = await deployed(running, SWEEPS, ahead=timedelta())
    assert not await are_runs_under_way(clean_prefect.environment)
    [first, *_] = await runs_of(running, deployment)
    await running.client.set_flow_run_state(first[0], Pending(), force=True)
    assert await are_runs_under_way(clean_prefect.environment)
    silent = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    assert not await are_runs_under_way(silent)
    await running.client.delete_flow_run(first[0])
