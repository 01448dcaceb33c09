"""A machine that slept: of the runs that are due one catches up, then all goes on as before."""

from datetime import timedelta

import pytest
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule

from linekeeper.clock import utcnow
from tasks.late_runs import LATE, is_overdue, skip_late_runs
from tests.flows.conftest import Running, on_both

pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]
EVERY = timedelta(minutes=5)


async def _due(running: Running) -> list[FlowRun]:
    """The sweeps that were scheduled in an hour in which nobody took any, the oldest first."""
    now = utcnow()
    flow_id = await running.client.create_flow_from_name("health-sweep")
    schedule = IntervalSchedule(interval=EVERY, anchor_date=now - timedelta(hours=2))
    deployment = await running.client.create_deployment(
        flow_id, "slept", schedules=[DeploymentScheduleCreate(schedule=schedule, active=True)]
    )
    for start in (now - timedelta(hours=1), now):
        answer = await running.client.request(
            "POST",
            "/deployments/{id}/schedule",
            path_params={"id": deployment},
            json={"start_time": start.isoformat()},
        )
        assert answer.is_success, answer.text
    runs = await running.client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])), limit=200
    )
    return sorted(runs, key=lambda run: run.expected_start_time or now)


async def test_of_runs_that_are_late_together_one_does_the_work(running: Running) -> None:
    runs = await _due(running)
    now = utcnow()
    late = [run for run in runs if run.expected_start_time and run.expected_start_time < now]
    ahead = [run for run in runs if run not in late]
    assert len(late) > 5
    assert ahead
    assert await skip_late_runs(running.client, late[0], now=now) == len(late) - 1
    states = {}
    for run in runs:
        states[run.id] = (await running.client.read_flow_run(run.id)).state_name
    assert {states[run.id] for run in late[1:]} == {"Skipped"}
    assert states[late[0].id] in ("Scheduled", "Late")
    assert "Skipped" not in {states[run.id] for run in ahead}
    assert await skip_late_runs(running.client, late[0], now=now) == 0


async def test_one_that_begins_in_time_asks_nothing(running: Running) -> None:
    [first, *_] = await _due(running)
    due = first.expected_start_time
    assert due is not None
    assert not is_overdue(first, due + LATE / 2)
    assert is_overdue(first, due + LATE)
    by_hand = first.model_copy(update={"auto_scheduled": False})
    assert not is_overdue(by_hand, due + LATE)
