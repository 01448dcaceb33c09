"""Steps whose process is gone: they have crashed, and are not at work for good in a run's graph.

Prefect ends a run whose process was killed, and leaves its task runs as they were. Steps that are
drawn (`tasks.drawn`) need no process: they are called otherwise while they are open.
"""

from datetime import datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateName,
)
from prefect.client.schemas.objects import TERMINAL_STATES, State
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from tasks.prefect_adapter.names import PAGE, tag

AT_WORK = ("Pending", "Running", "AwaitingRetry", "Retrying")
"""What Prefect calls the states of a task run that a process has begun and not ended."""
WRITTEN_WITHIN = timedelta(minutes=1)
"""The server writes how a task run ended a moment later than how its run did."""


async def end_steps_of(client: PrefectClient, run_id: UUID) -> None:
    """End what a process of this run had begun, which is gone. Raises as `client`."""
    await _end_steps(client, FlowRunFilter(id=FlowRunFilterId(any_=[run_id])))


async def end_steps_of_what_is_over(client: PrefectClient, *, now: datetime) -> None:
    """The same of all runs of ours that are over, however they ended. Raises as `client`."""
    over = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag()]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=sorted(TERMINAL_STATES))),
        end_time=FlowRunFilterEndTime(before_=now - WRITTEN_WITHIN),
    )
    await _end_steps(client, over)


async def _end_steps(client: PrefectClient, runs: FlowRunFilter) -> None:
    at_work = TaskRunFilter(state=TaskRunFilterState(name=TaskRunFilterStateName(any_=AT_WORK)))
    steps = await client.read_task_runs(flow_run_filter=runs, task_run_filter=at_work, limit=PAGE)
    for step in steps:
        lost: State[None] = Crashed(
            message="The process of its run was lost, or ended, while it was at work."
        )
        try:
            await client.set_task_run_state(step.id, lost, force=True)
        except ObjectNotFound:  # it was deleted with its run
            continue
