"""Runs that are due and that Prefect has not planned, because a clock was ahead.

Prefect plans the runs of a schedule an hour, or three of them, ahead, and plans none while it has
as many. Those of a clock that was a day ahead are tomorrow's: once it is right there would be no
sweep until then. Prefect is asked to plan from now on. That is harmless at any time: a date that
it has planned before, or whose run was cancelled, is not planned again.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType

from linekeeper.cli.names import every, tag
from linekeeper.clock import utcnow

A_BIT = timedelta(minutes=1)
"""How much later than its step the next run may be."""
log = logging.getLogger(__name__)


async def plan_again(client: PrefectClient) -> list[str]:
    """Have Prefect plan the deployments whose next run is too far away; returns which.

    Raises as `client`.
    """
    planned: defaultdict[UUID | None, list[datetime]] = defaultdict(list)
    scheduled = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag()]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
    )
    for run in await every(client.read_flow_runs, flow_run_filter=scheduled):
        if run.auto_scheduled and run.next_scheduled_start_time:
            planned[run.deployment_id].append(run.next_scheduled_start_time)
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[tag()]))
    now = await _its_time(client)
    again = []
    for deployment in await every(client.read_deployments, deployment_filter=ours):
        is_on = not deployment.paused and any(each.active for each in deployment.schedules)
        if is_on and leaves_out(planned[deployment.id], now=now):
            await client.request(
                "POST", "/deployments/{id}/schedule", path_params={"id": deployment.id}, json={}
            )
            log.warning("%s: runs were planned for later only; planned again", deployment.name)
            again.append(deployment.name)
    return again


def leaves_out(planned: Iterable[datetime], *, now: datetime) -> bool:
    """Whether the first of the `planned` runs is further away than the second is from it."""
    first, second, *_ = [*sorted(planned), None, None]
    if first is None or second is None:
        return False
    return first - now > second - first + A_BIT


async def _its_time(client: PrefectClient) -> datetime:
    """The time by the clock by which Prefect plans."""
    answer = await client.request("GET", "/health")
    return parsedate_to_datetime(answer.headers["date"]) if "date" in answer.headers else utcnow()
