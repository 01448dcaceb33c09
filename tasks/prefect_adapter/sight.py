"""What Prefect says of the workers, of a pause, and of runs that its automations reported."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import (
    FlowRun,
    State,
    StateType,
    Worker,
    WorkPool,
    WorkPoolStatus,
)
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from linekeeper.watch.alerts import Alert, Kind, RunOutcome, is_late
from tasks.prefect_adapter.hold_up import hold_up, online_of, queues_of, route_of, under_way_in
from tasks.prefect_adapter.names import PAUSED_VARIABLE, every, variable_name
from tasks.prefect_adapter.server import work_pool


@dataclass(frozen=True, slots=True)
class Sight:
    """Prefect as it answered just now."""

    workers: Mapping[str, str]
    """Worker → its own last heartbeat, as Prefect wrote it."""
    paused: bool
    pool_ready: bool
    runs: Mapping[str, str] = field(default_factory=dict)
    """Run that was reported → the name of its state; a run that is gone is not there."""
    finished: Mapping[str, RunOutcome] = field(default_factory=dict)
    """Deployment with a failed or crashed run → its last run that finished, if that is later."""
    went_on: Collection[str] = ()
    """The runs that had failed or crashed, and have worked again since."""
    late: Mapping[str, str] = field(default_factory=dict)
    """Run that was reported as late, and still is → what holds it up."""


async def look(client: PrefectClient, alerts: Sequence[Alert] = ()) -> Sight:
    """Ask Prefect, also about what became of `alerts`. Raises what its client raises."""
    pool, workers = await _pool(client)
    variable = await client.read_variable_by_name(variable_name(PAUSED_VARIABLE))
    states: dict[str, str] = {}
    finished: dict[str, RunOutcome] = {}
    went_on: list[str] = []
    late: list[FlowRun] = []
    for alert in alerts:
        if alert.kind == "pool_not_ready":
            continue
        run = await _run(client, alert.run_id)
        if run is not None:
            states[alert.run_id] = run.state_name or ""
        if alert.kind == "run_late":
            late += [run] if run is not None and is_late(run.state_name) else []
            continue
        if run is not None and run.state is not None and not _is_broken(run.state, alert.kind):
            if run.state.is_paused() or run.state.is_final():
                went_on.append(alert.run_id)
            continue
        since = run.end_time if run is not None else None
        if last := await _last(client, alert.subject, since):
            finished[alert.subject] = last
    return Sight(
        workers={worker.name: str(worker.last_heartbeat_time or "") for worker in workers},
        paused=bool(variable.value) if variable else False,
        pool_ready=pool is not None and pool.status is WorkPoolStatus.READY,
        runs=states,
        finished=finished,
        went_on=went_on,
        late=await _held_up(client, pool, workers, late) if late and pool is not None else {},
    )


async def _pool(client: PrefectClient) -> tuple[WorkPool | None, list[Worker]]:
    try:
        pool = await client.read_work_pool(work_pool())
        workers = await every(client.read_workers_for_work_pool, work_pool_name=work_pool())
    except ObjectNotFound:
        return None, []  # not deployed yet: there is no worker
    return pool, list(workers)


async def _held_up(
    client: PrefectClient, pool: WorkPool, workers: Sequence[Worker], runs: Sequence[FlowRun]
) -> dict[str, str]:
    """Run → why it doesn't start."""
    ids = list({run.deployment_id for run in runs if run.deployment_id})
    page = await client.read_deployments(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=ids))
    )
    deployments: dict[UUID | None, DeploymentResponse] = {each.id: each for each in page}
    queues, under_way = await queues_of(client, pool), await under_way_in(client, pool)
    online = len(online_of(workers))
    return {
        str(run.id): hold_up(
            route_of(pool, queues, run.work_queue_name, deployments.get(run.deployment_id)),
            workers=online,
            under_way=under_way,
        ).reason
        for run in runs
    }


async def _run(client: PrefectClient, run_id: str) -> FlowRun | None:
    try:
        return await client.read_flow_run(UUID(run_id))
    except (ObjectNotFound, ValueError):
        return None


def _is_broken(state: State[Any], kind: Kind) -> bool:
    """Whether a run is still as it was reported. Pure."""
    return state.is_crashed() or (kind == "run_failed" and state.is_failed())


async def _last(
    client: PrefectClient, deployment: str, since: datetime | None
) -> RunOutcome | None:
    """How the last run of `deployment` that finished did, of those that did so after `since`."""
    runs = await client.read_flow_runs(
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[deployment])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(
                type=FlowRunFilterStateType(
                    any_=[StateType.COMPLETED, StateType.FAILED, StateType.CRASHED]
                )
            ),
            end_time=FlowRunFilterEndTime(after_=since) if since else None,
        ),
        sort=FlowRunSort.END_TIME_DESC,
        limit=1,
    )
    if not runs:
        return None
    return RunOutcome(str(runs[0].id), completed=runs[0].state_type == StateType.COMPLETED)
