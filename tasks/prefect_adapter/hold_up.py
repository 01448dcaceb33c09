"""Why a run is late: what it has to pass until it starts, and what of that holds it up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType, Worker, WorkPool, WorkQueue
from prefect.client.schemas.responses import DeploymentResponse

from linekeeper.watch.alerts import NO_WORKER


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that a run has to pass: a limit of None means that there is none."""

    name: str
    """What it is called on the screens, such as `queue bulk`."""
    is_paused: bool = False
    limit: int | None = None
    active: int = 0


@dataclass(frozen=True, slots=True)
class HoldUp:
    """Why runs are late, and what to do about it."""

    reason: str
    remedy: str
    figures: str = ""
    """How much is under way where that is the reason; in brackets, with a blank before it."""


def hold_up(route: Sequence[Route], *, workers: int, under_way: int) -> HoldUp:
    """Why a run that takes `route` is late, with so many `workers` and runs of the pool. Pure.

    What an operator set comes first: no worker would change it.
    """
    for gate in route:
        if gate.is_paused:
            return HoldUp(f"the {gate.name} is paused", f"resume the {gate.name} in the Prefect UI")
    if not workers:
        return HoldUp(NO_WORKER, "start a worker")
    for gate in route:
        if gate.limit is not None and gate.active >= gate.limit:
            return HoldUp(
                f"the {gate.name} has reached its concurrency limit",
                f"wait, end what hangs, or raise the limit of the {gate.name}",
                f" ({gate.active} of {gate.limit} under way)",
            )
    if under_way:
        return HoldUp(
            "the workers are busy with other runs",
            "wait until one ends, start another worker, or raise its limit (`--limit`); "
            "if it stays late then, no worker polls its queue (`--work-queue`)",
            f" ({under_way} under way)",
        )
    return HoldUp(
        "no worker took them, and none is busy",
        "start a worker that polls its queue (`--work-queue`)",
    )


def route_of(
    pool: WorkPool,
    queues: Mapping[str, WorkQueue],
    queue_name: str | None,
    deployment: DeploymentResponse | None,
) -> list[Route]:
    """What a run of `deployment` in the queue has to pass."""
    route = []
    if deployment is not None:
        limit = deployment.global_concurrency_limit
        route.append(
            Route(
                f"deployment {deployment.name}",
                deployment.paused,
                limit.limit if limit else None,
                limit.active_slots if limit else 0,
            )
        )
    queue = queues.get(queue_name or "default")
    if queue is not None:
        name, active = f"queue {queue.name}", queue.active_slots or 0
        route.append(Route(name, queue.is_paused, queue.concurrency_limit, active))
    name, active = f"pool {pool.name}", pool.active_slots or 0
    route.append(Route(name, pool.is_paused, pool.concurrency_limit, active))
    return route


async def under_way_in(client: PrefectClient, pool: WorkPool) -> int:
    """How many runs the workers of the pool have now."""
    states = FlowRunFilterState(
        type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING])
    )
    return await client.count_flow_runs(
        flow_run_filter=FlowRunFilter(state=states),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool.name])),
    )


async def queues_of(client: PrefectClient, pool: WorkPool) -> dict[str, WorkQueue]:
    """The queues of the pool, by name."""
    return {queue.name: queue for queue in await client.read_work_queues(pool.name)}


def online_of(workers: Sequence[Worker]) -> list[str]:
    """The names of those that are online."""
    return [worker.name for worker in workers if str(worker.status).upper().endswith("ONLINE")]
