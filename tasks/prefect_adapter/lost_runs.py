"""Runs whose process is gone: they go on, or are marked crashed.

A worker that dies takes its runs with it. One that it had taken and not begun stays `Pending` for
good, one that was at work stays `Running`; of a process that died alone its worker says `Crashed`.
An automation of Prefect's can't look after them: it
counts events, a server that is killed loses those it had not written, and then a run that waits
for people would be marked crashed for having no heartbeat.

How long a run is silent is measured here, by a clock that never steps. Prefect, this process and
that of the run may each believe another time, and a machine whose clock is set a day ahead has not
been silent for a day.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from prefect.states import Crashed, Scheduled

from linekeeper.text import counted
from tasks.prefect_adapter.lost_steps import end_steps_of
from tasks.prefect_adapter.names import every, names_of_flows, tag

BEGINS_WITHIN = timedelta(minutes=3)
"""How long a run may be between a worker's taking it and its first step."""
BEGINS_ELSEWHERE = timedelta(minutes=30)
"""The same in work pools that pull an image or start a machine for each run."""
MISSED = 3
"""How many of Prefect's heartbeats (one in 180 s, unless set) a process may miss, and a bit."""
A_BIT = timedelta(minutes=1)
CLOCKS_DIFFER = timedelta(days=2)
"""Heartbeats are asked for from so much before until so much after what is right here."""
GOES_ON = frozenset(
    {"implementation", "gate", "reconnect", "authentication-setup", "workflow-configuration"}
)
"""Flows that wait for people: begun again from the top, the same run goes on where it was."""
CRASHES = 3
CRASHES_WITHIN = timedelta(hours=1)
"""More crashes of one run within this are no accident: it stays as it is."""
_ALIVE = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED]
log = logging.getLogger(__name__)


def silent_after() -> timedelta | None:
    """How long a process that works may be silent; None where Prefect's heartbeats are off."""
    seconds = get_current_settings().flows.heartbeat_frequency
    return None if seconds is None else MISSED * timedelta(seconds=seconds) + A_BIT


@dataclass(frozen=True, slots=True)
class _Silence:
    """A run that has been in one state, and of which nothing new is known."""

    state_id: UUID | None
    heartbeats: int
    since: float
    """In seconds of the clock that never steps."""


class LostRuns:
    """Looks again and again; a heartbeat missed while Prefect was away says nothing."""

    def __init__(self) -> None:
        self._silent: dict[UUID, _Silence] = {}

    def away(self) -> None:
        """Prefect did not answer: heartbeats of that time are missing."""
        self._silent = {}

    async def look(self, client: PrefectClient, *, now: datetime, seconds: float) -> list[str]:
        """Let runs go on whose process is gone, or end them; returns which. Raises as `client`.

        `seconds` are those of a clock that never steps.
        """
        runs = await every(
            client.read_flow_runs,
            flow_run_filter=_ours_in([StateType.PENDING, StateType.RUNNING]),
        )
        crashed = FlowRunFilterEndTime(after_=now - CRASHES_WITHIN)
        runs += await every(
            client.read_flow_runs, flow_run_filter=_ours_in([StateType.CRASHED], ended=crashed)
        )
        self._silent = {run.id: await self._silence(client, run, now, seconds) for run in runs}
        flows = await names_of_flows(client, {run.flow_id for run in runs})
        lost = []
        for run in runs:
            silent = timedelta(seconds=seconds - self._silent[run.id].since)
            then = await _ending(client, run, flows.get(run.flow_id, ""), silent, now)
            if then is not None and await _is_still_so(client, run):
                await end_steps_of(client, run.id)
                await client.set_flow_run_state(run.id, then, force=True)
                log.warning("run %s (%s): %s", run.name, run.id, then.message)
                lost.append(str(run.id))
        return lost

    async def _silence(
        self, client: PrefectClient, run: FlowRun, now: datetime, seconds: float
    ) -> _Silence:
        """Since when nothing new is known of it, as far as this process has looked."""
        is_at_work = run.state is not None and run.state.is_running()
        beats = is_at_work and silent_after() is not None
        heartbeats = await _heartbeats(client, run, now) if beats else 0
        known = self._silent.get(run.id)
        if known and (known.state_id, known.heartbeats) == (run.state_id, heartbeats):
            return known
        return _Silence(run.state_id, heartbeats, seconds)


async def _ending(
    client: PrefectClient, run: FlowRun, flow: str, silent: timedelta, now: datetime
) -> State[None] | None:
    """The state of a run whose process is gone; None where it may be there."""
    if run.state is None:
        return None
    if run.state.is_crashed():
        goes_on = flow in GOES_ON and await _may_go_on(client, run, now)
        said = "Its process was lost: it goes on in a new one."
        return Scheduled(message=said) if goes_on else None
    if run.state.is_pending():
        return await _due_again(client, run, silent)
    longest = silent_after()
    if longest is None or silent < longest:
        return None
    said = f"No heartbeat for {longest.total_seconds() / 60:g} minutes"
    if flow in GOES_ON:
        return Scheduled(message=f"{said}: it goes on in a new process.")
    return Crashed(message=f"{said}: its process is gone.")


async def _due_again(client: PrefectClient, run: FlowRun, silent: timedelta) -> State[None] | None:
    """What becomes of a run that a worker took; None where that may still begin it."""
    if silent < BEGINS_WITHIN or silent < await _begins_within(client, run):
        return None
    minutes = counted(round(silent.total_seconds() / 60), "minute")
    return Scheduled(message=f"A worker took it and did not begin for {minutes}: it is due again.")


def _ours_in(
    states: list[StateType], *, ended: FlowRunFilterEndTime | None = None
) -> FlowRunFilter:
    return FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag()]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)),
        end_time=ended,
    )


async def _may_go_on(client: PrefectClient, run: FlowRun, now: datetime) -> bool:
    """Whether a crash of this run is an accident, and no other run has taken its place.

    Who answered its form is not asked again. A worker calls a run crashed whose process it ends
    because somebody cancels it, and cancelled half a minute later.
    """
    states = sorted(await client.read_flow_run_states(run.id), key=lambda state: state.timestamp)
    if any(state.type == StateType.CANCELLING for state in states[-2:]):
        return False
    since = now - CRASHES_WITHIN
    if sum(state.is_crashed() and state.timestamp > since for state in states) > CRASHES:
        return False
    if run.deployment_id is None:
        return False
    others = await every(
        client.read_flow_runs,
        flow_run_filter=_ours_in(_ALIVE),
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[run.deployment_id])),
    )
    return all(other.parameters != run.parameters for other in others)


async def _begins_within(client: PrefectClient, run: FlowRun) -> timedelta:
    """How long its work pool may take to begin it."""
    if run.work_pool_name is None:
        return BEGINS_WITHIN
    try:
        pool = await client.read_work_pool(run.work_pool_name)
    except ObjectNotFound:
        return BEGINS_WITHIN
    return BEGINS_WITHIN if pool.type == "process" else BEGINS_ELSEWHERE


async def _heartbeats(client: PrefectClient, run: FlowRun, now: datetime) -> int:
    """How many there are of the run's processes, whatever their clocks believe."""
    assert run.state is not None
    since = min(run.state.timestamp, now) - CLOCKS_DIFFER
    until = max(run.state.timestamp, now) + CLOCKS_DIFFER
    answer = await client.request(
        "POST",
        "/events/filter",
        json={
            "filter": {
                "occurred": {"since": since.isoformat(), "until": until.isoformat()},
                "event": {"name": ["prefect.flow-run.heartbeat"]},
                "resource": {"id": [f"prefect.flow-run.{run.id}"]},
            },
            "limit": 1,
        },
    )
    return int(answer.json()["total"])


async def _is_still_so(client: PrefectClient, run: FlowRun) -> bool:
    try:
        again = await client.read_flow_run(run.id)
    except ObjectNotFound:
        return False
    return again.state_id == run.state_id
