"""What the doctor says about runs that are late: what holds each of them up."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType, WorkPool, WorkQueue
from prefect.client.schemas.responses import DeploymentResponse

from linekeeper.clock import utcnow
from linekeeper.doctor.finding import Finding, named, ok, warn, wrong

LATE_AFTER = timedelta(minutes=1)
"""A worker that polls takes a run well before."""
NAME = "prefect · late runs"
_MOST = 200


@dataclass(frozen=True, slots=True)
class Route:
    """What a run has to pass until it starts: a limit of None means that there is none."""

    name: str
    """What it is called on the screens, such as `queue bulk`."""
    is_paused: bool = False
    limit: int | None = None
    active: int = 0


def cause_of(route: Sequence[Route], *, workers: int) -> tuple[str, str]:
    """Why a run that takes `route` is late, and what to do about it. Pure.

    What an operator set comes first: no worker would change it.
    """
    for gate in route:
        if gate.is_paused:
            return f"the {gate.name} is paused", f"resume the {gate.name} in the Prefect UI"
    if not workers:
        return "no worker is online", "start a worker: see the pool above"
    for gate in route:
        if gate.limit is not None and gate.active >= gate.limit:
            return (
                f"the {gate.name} has reached its concurrency limit "
                f"({gate.active} of {gate.limit} under way)",
                f"wait, end what hangs, or raise the limit of the {gate.name}",
            )
    return (
        "no worker took it: the workers are at their own limit (`--limit`), or none polls its "
        "queue (`--work-queue`)",
        "start another worker, or raise the limit of this one",
    )


async def examine_late(
    client: PrefectClient,
    pool: WorkPool,
    deployments: Sequence[DeploymentResponse],
    *,
    workers: int,
) -> list[Finding]:
    """One finding for each cause, with the deployments whose runs it holds up."""
    runs = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(
                before_=utcnow() - LATE_AFTER
            ),
        ),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool.name])),
        limit=_MOST,
    )
    if not runs:
        return [ok(NAME, "none")]
    queues = {queue.name: queue for queue in await client.read_work_queues(pool.name)}
    by_id = {deployment.id: deployment for deployment in deployments}
    late: dict[tuple[str, str], Counter[str]] = {}
    for run in runs:
        deployment = by_id.get(run.deployment_id) if run.deployment_id else None
        route = _route(pool, queues, run.work_queue_name, deployment)
        cause = cause_of(route, workers=workers)
        held_up = late.setdefault(cause, Counter())
        held_up[deployment.name if deployment else run.name] += 1
    return [
        wrong(NAME, f"{why}: {named(_counted(held_up))}", remedy)
        for (why, remedy), held_up in late.items()
    ]


def paused_deployments(deployments: Sequence[DeploymentResponse]) -> list[Finding]:
    """Those that an operator paused: no run of theirs is scheduled."""
    paused = sorted(deployment.name for deployment in deployments if deployment.paused)
    if not paused:
        return []
    text = f"paused, so that no run of theirs is scheduled: {named(paused)}"
    return [warn("prefect · deployments", text, "resume them in the Prefect UI")]


def _counted(held_up: Mapping[str, int]) -> list[str]:
    return [name if number == 1 else f"{name} (×{number})" for name, number in held_up.items()]


def _route(
    pool: WorkPool,
    queues: Mapping[str, WorkQueue],
    queue_name: str | None,
    deployment: DeploymentResponse | None,
) -> list[Route]:
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
