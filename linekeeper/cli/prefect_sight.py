"""What Prefect says of the workers, of a pause, and of runs that its automations reported."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType, WorkPoolStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from linekeeper.cli.deploy import PAUSED_VARIABLE
from linekeeper.cli.server import POOL


@dataclass(frozen=True, slots=True)
class Sight:
    """Prefect as it answered just now."""

    workers: Mapping[str, str]
    """Worker → its own last heartbeat, as Prefect wrote it."""
    paused: bool
    pool_ready: bool
    runs: Mapping[str, str] = field(default_factory=dict)
    """Run → the name of its state; a run that is gone is not there."""
    completed: Collection[str] = frozenset()
    """Deployments, of those asked about, whose last finished run completed."""


async def look(
    client: PrefectClient, *, runs: Collection[str] = (), deployments: Collection[str] = ()
) -> Sight:
    """Ask Prefect. Raises what its client raises."""
    workers: dict[str, str] = {}
    ready = False
    try:
        pool = await client.read_work_pool(POOL)
        ready = pool.status is WorkPoolStatus.READY
        for worker in await client.read_workers_for_work_pool(POOL):
            workers[worker.name] = str(worker.last_heartbeat_time or "")
    except ObjectNotFound:
        pass  # not deployed yet: there is no worker
    variable = await client.read_variable_by_name(PAUSED_VARIABLE)
    states: dict[str, str] = {}
    for run in sorted(runs):
        try:
            found = await client.read_flow_run(UUID(run))
        except ObjectNotFound:
            continue
        states[run] = found.state_name or ""
    return Sight(
        workers,
        bool(variable.value) if variable else False,
        ready,
        states,
        frozenset([name for name in sorted(deployments) if await _completed(client, name)]),
    )


async def _completed(client: PrefectClient, deployment: str) -> bool:
    """Whether the last run of `deployment` that finished did so well."""
    finished = await client.read_flow_runs(
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[deployment])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(
                type=FlowRunFilterStateType(
                    any_=[StateType.COMPLETED, StateType.FAILED, StateType.CRASHED]
                )
            )
        ),
        sort=FlowRunSort.END_TIME_DESC,
        limit=1,
    )
    return bool(finished) and finished[0].state_type == StateType.COMPLETED
