"""Runs that a schedule left behind while nobody took any: one catches up, the others are skipped.

A machine that slept for an hour finds twelve sweeps that are due. Each would look at the same
fleet again, one after the other; the first of them does the work of all.
"""

from datetime import datetime, timedelta

import httpx
from prefect import get_client, get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import PrefectException
from prefect.states import Completed

LATE = timedelta(minutes=2)
"""A worker takes runs within seconds; so late nobody was there."""
_AT_ONCE = 200


def is_overdue(run: FlowRun, now: datetime) -> bool:
    """Whether a schedule wanted this run so long ago that nobody was there to take it."""
    due = run.expected_start_time
    scheduled = run.deployment_id is not None and run.auto_scheduled
    return scheduled and due is not None and now - due >= LATE


async def catch_up(run: FlowRun, *, now: datetime) -> None:
    """Where `run` is late it does the work of the others that are. Else this costs nothing.

    Where Prefect doesn't answer they are left as they are: each finds out what there is to do.
    """
    if not is_overdue(run, now):
        return
    try:
        async with get_client() as client:
            await skip_late_runs(client, run, now=now)
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("other late runs are left as they are: %s", error)


async def skip_late_runs(client: PrefectClient, run: FlowRun, *, now: datetime) -> int:
    """End the other late runs of the same schedule as `Skipped`; how many there were."""
    assert run.deployment_id is not None  # a schedule made it
    message = f"The run {run.name!r} ({run.id}) was as late, and does what this one was to do"
    late = await client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[run.deployment_id])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=now),
        ),
        limit=_AT_ONCE,
    )
    others = [
        other
        for other in late
        if other.id != run.id and other.auto_scheduled and other.parameters == run.parameters
    ]
    for other in others:
        state: State[None] = Completed(name="Skipped", message=message)
        await client.set_flow_run_state(other.id, state, force=True)
    return len(others)
