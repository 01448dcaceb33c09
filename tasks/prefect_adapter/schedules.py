"""Runs that are due, and that a clock which was ahead keeps from being started.

Prefect plans the runs of a schedule an hour, or three of them, ahead, and plans none while it has
as many. Those of a clock that was a day ahead are tomorrow's: once it is right there would be no
sweep until then. Prefect is asked to plan from now on. That is harmless at any time: a date that
it has planned before, or whose run was cancelled, is not planned again. So what that clock let
come to its end before its time goes first: what was skipped as being late, what found nothing new,
and what crashed. What failed by its findings stays. A run that somebody started by it is due now,
not tomorrow.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import State, StateType
from prefect.states import Scheduled

from linekeeper.clock import utcnow
from tasks.prefect_adapter.names import every, tag

A_BIT = timedelta(minutes=1)
"""How much later than its step the next run may be."""
log = logging.getLogger(__name__)


async def plan_again(client: PrefectClient) -> list[str]:
    """Have what is due started; returns the deployments that were planned again.

    Raises as `client`.
    """
    now = await _its_time(client)
    planned: defaultdict[UUID | None, list[datetime]] = defaultdict(list)
    for run in await every(client.read_flow_runs, flow_run_filter=_scheduled()):
        due = run.next_scheduled_start_time
        if due and run.auto_scheduled:
            planned[run.deployment_id].append(due)
        elif due and run.state and is_put_off(run.state, due, now=now):
            said = "It was due by a clock that was ahead: it is due now."
            await client.set_flow_run_state(run.id, Scheduled(message=said), force=True)
            log.warning("run %s (%s): %s", run.name, run.id, said)
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[tag()]))
    again = []
    for deployment in await every(client.read_deployments, deployment_filter=ours):
        is_on = not deployment.paused and any(each.active for each in deployment.schedules)
        if is_on and leaves_out(planned[deployment.id], now=now):
            await _forget_early(client, deployment.id, now)
            await client.request(
                "POST", "/deployments/{id}/schedule", path_params={"id": deployment.id}, json={}
            )
            log.info("%s: runs were planned for later only; planned again", deployment.name)
            again.append(deployment.name)
    return again


def _scheduled() -> FlowRunFilter:
    return FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag()]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
    )


async def _forget_early(client: PrefectClient, deployment: UUID, now: datetime) -> None:
    """Remove the runs that are over and not due yet, so that their dates can be planned."""
    early = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_NO_NEWS)),
        expected_start_time=FlowRunFilterExpectedStartTime(after_=now),
    )
    which = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    for run in await every(client.read_flow_runs, flow_run_filter=early, deployment_filter=which):
        if run.auto_scheduled:
            await client.delete_flow_run(run.id)


_NO_NEWS = [StateType.COMPLETED, StateType.CRASHED]
"""How a run ends of which nothing is to be read later; one that is cancelled was not to be."""


def is_put_off(state: State[Any], due: datetime, *, now: datetime) -> bool:
    """Whether a run that somebody started is due later only by a clock that was ahead."""
    was_due_at_once = due < state.timestamp + A_BIT
    is_of_later = state.timestamp > now + A_BIT and was_due_at_once
    return due > now + A_BIT and (is_of_later or state.name == "Late")


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
