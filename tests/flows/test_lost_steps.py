"""Steps that were at work when their run's process was killed are not at work for good."""

from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed, Crashed
from prefect.states import Running as AtWork

from flows.reconnect import reconnect
from linekeeper.clock import utcnow
from tasks.prefect_adapter.lost_runs import LostRuns
from tasks.prefect_adapter.lost_steps import WRITTEN_WITHIN, end_steps_of_what_is_over
from tasks.prefect_adapter.names import tag
from tests.flows.conftest import Running, on_both
from tests.flows.test_lost_runs import found_of, in_state, name_of_state

pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]


async def step(running: Running, run: FlowRun, state: State[None]) -> UUID:
    """A task run of `run` in that state."""
    answer = await running.client.request(
        "POST",
        "/task_runs/",
        json={
            "flow_run_id": str(run.id),
            "name": "verify",
            "task_key": "verify",
            "dynamic_key": str(uuid4()),
            "state": {"type": state.type, "name": state.name},
        },
    )
    return UUID(answer.json()["id"])


async def states(running: Running, *steps: UUID) -> list[str]:
    return [(await running.client.read_task_run(each)).state_name or "" for each in steps]


async def test_a_run_that_goes_on_in_a_new_process_shows_no_step_of_the_old_one_at_work(
    running: Running,
) -> None:
    run = await in_state(running, "reconnect", AtWork())
    at_work, done = [await step(running, run, state) for state in (AtWork(), Completed())]
    waits = await step(running, run, AtWork(name="Waiting for the customer"))
    await running.client.set_flow_run_state(run.id, Crashed(message="status -9"), force=True)
    assert await found_of(LostRuns(), running, run, now=utcnow()) == [run]
    assert await name_of_state(running, run) == "Scheduled"
    shown = await states(running, at_work, done, waits)
    assert shown == ["Crashed", "Completed", "Waiting for the customer"]


@pytest.mark.parametrize("ended", [Crashed(), Completed()])
async def test_a_run_that_is_over_has_no_step_at_work(
    running: Running, monkeypatch: pytest.MonkeyPatch, ended: State[None]
) -> None:
    monkeypatch.setenv("LINEKEEPER_PREFIX", "lost-steps")  # other tests share the server
    runs = [await running.client.create_flow_run(reconnect, tags=[tag()]) for _ in range(2)]
    steps = [await step(running, run, AtWork()) for run in runs]
    for run, state in zip(runs, (ended, AtWork()), strict=True):
        await running.client.set_flow_run_state(run.id, state, force=True)
    await end_steps_of_what_is_over(running.client, now=utcnow())
    assert await states(running, *steps) == ["Running", "Running"], "it may not be written yet"
    await end_steps_of_what_is_over(running.client, now=utcnow() + 2 * WRITTEN_WITHIN)
    assert await states(running, *steps) == ["Crashed", "Running"]
