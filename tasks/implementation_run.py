"""The run of an implementation: its graph, its name and tags, and whether it is still there.

Prefect's own clients report task runs as events, which carry their times with them. The gates are
reported in the same way: so each stands in the graph at its own time, also when it is told late,
and is there once, however often it is told.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from prefect import get_client, get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled

from linekeeper.cli.links import find_links
from linekeeper.clock import utcnow
from linekeeper.implementation.graph import Node, nodes, span, waits_for
from linekeeper.implementation.news import MAX_TAG
from linekeeper.implementation.progress import Progress
from linekeeper.implementation.run import take_up
from linekeeper.implementation.standing import Standing
from tasks.implementation import is_hung
from tasks.run import runtime

AGES_UNTIL_NEXT = 4
"""A graph that is not to scale is drawn again when the run is so many times as old."""
TICK = timedelta(milliseconds=1)
PAGE = 200


def this_deployed_run() -> FlowRun | None:
    """The run we are in; None if it has no deployment: such a run can't be suspended."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    return run if run is not None and run.deployment_id is not None else None


async def takes_up(standing: Standing, run: FlowRun) -> bool:
    """Whether `run` shows that implementation from now on, because its own run is gone."""
    one = standing.implementation
    async with get_client() as client:
        if one.run_id is not None:
            other = await _read(client, one.run_id)
            if other is not None and not (other.state is None or other.state.is_final()):
                if not is_hung(other):
                    return False
                gone: State[None] = Cancelled(
                    message=f"Nothing ran it any more: {run.id} shows it now"
                )
                await client.set_flow_run_state(other.id, gone, force=True)
    taken = await take_up(runtime().store, one.id, str(run.id), instead_of=one.run_id, now=utcnow())
    if taken and one.run_id is not None:
        get_run_logger().warning(
            "This run was made again in place of %s, which was lost. What was settled before now "
            "is restored from Linekeeper's records, with its times.",
            one.run_id,
        )
    return taken


async def show(progress: Progress, *, now: datetime) -> datetime | None:
    """Draw this run's graph, and name and tag the run after what it shows.

    Returns when to draw it again because it isn't to scale yet; None if it is.
    """
    run = this_deployed_run()
    assert run is not None  # others don't show an implementation
    # Prefect's times are of a class of its own, whose differences do not divide.
    began = datetime.fromtimestamp(run.start_time.timestamp(), UTC) if run.start_time else now
    one = progress.standing.implementation
    async with get_client() as client:
        links = await find_links(client)
        found = nodes(progress, began=began, form=links.run, now=now)
        drawn, to_scale = span(found, began=began, now=now)
        for node in await draw(client, run, drawn, now=now):
            get_run_logger().info("%s: %s", node.title, node.message)
        mine = [f"implementation:{one.slug}", f"customer:{progress.standing.customer.slug}"]
        waiting = [f"waiting:{who}" for who in waits_for(progress)]
        tags = {tag[:MAX_TAG] for tag in (*mine, *waiting)}
        tags |= {tag for tag in run.tags if not tag.startswith("waiting:")}
        done = round(100 * progress.evaluation.progress)
        await client.update_flow_run(run.id, name=f"{one.title} · {done} %", tags=sorted(tags))
    return None if to_scale else now + (now - began) * (AGES_UNTIL_NEXT - 1)


async def draw(
    client: PrefectClient, run: FlowRun, found: Sequence[Node], *, now: datetime
) -> list[Node]:
    """Report the gates of a run that are otherwise than the server knows them; returns those."""
    known = await _known(client, run.id)
    changed = [node for node in found if not _is_shown(known.get(node.gate), node)]
    events = [event for node in changed for event in _events(run, node, known.get(node.gate), now)]
    if events:
        await client.request("POST", "/events", json=events)
    return changed


async def _known(client: PrefectClient, run_id: UUID) -> dict[str, TaskRun]:
    found: dict[str, TaskRun] = {}
    ours = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    offset = 0
    while True:
        page = await client.read_task_runs(flow_run_filter=ours, limit=PAGE, offset=offset)
        found |= {one.dynamic_key: one for one in page}
        offset += PAGE
        if len(page) < PAGE:
            return found


def _is_shown(known: TaskRun | None, node: Node) -> bool:
    if known is None or known.state is None:
        return False
    state = known.state
    start = known.start_time or known.expected_start_time
    return (state.type, state.name, state.message, start, known.end_time) == (
        StateType(node.state),
        node.name,
        node.message,
        node.start,
        node.end,
    )


def _events(run: FlowRun, node: Node, known: TaskRun | None, now: datetime) -> list[dict[str, Any]]:
    """What a client would have reported; each later than what the server knows of the gate."""
    at = {"SCHEDULED": min(node.start, now), "PAUSED": now}.get(node.state, node.end or node.start)
    if known is not None and known.state is not None:
        at = max(at, known.state.timestamp + TICK)
    events = [_event(run, node, at)]
    if known is None and node.state != "SCHEDULED":
        opened = replace(
            node, state="RUNNING", name="Running", message="The gate was opened.", end=None
        )
        events.insert(0, _event(run, opened, min(node.start, at - TICK)))
    return events


def _event(run: FlowRun, node: Node, at: datetime) -> dict[str, Any]:
    """The report that a gate is in the state of `node` since `at`."""
    state, name, message, end = node.state, node.name, node.message, node.end
    identifier = _task_run_id(run.id, node.gate)
    waits = state == "SCHEDULED"
    task_run: dict[str, Any] = {
        "task_key": "gate",
        "dynamic_key": node.gate,
        "name": node.title,
        "tags": [],
        "run_count": 0 if waits else 1,
        "flow_run_run_count": run.run_count,
        "expected_start_time": node.start.isoformat(),
        "start_time": None if waits else node.start.isoformat(),
        "end_time": None if end is None else end.isoformat(),
        "total_run_time": 0.0 if end is None or waits else (end - node.start).total_seconds(),
        "task_inputs": {
            "needs": [
                {"input_type": "task_run", "id": str(_task_run_id(run.id, need))}
                for need in node.needs
            ]
        },
    }
    details = {"scheduled_time": node.start.isoformat()} if waits else {}
    said = uuid5(identifier, "\n".join((state, name, message, at.isoformat(), str(end))))
    return {
        "id": str(said),
        "occurred": at.isoformat(),
        "event": f"prefect.task-run.{name}",
        "resource": {
            "prefect.resource.id": f"prefect.task-run.{identifier}",
            "prefect.resource.name": node.title,
            "prefect.state-name": name,
            "prefect.state-type": state,
            "prefect.state-message": message,
            "prefect.state-timestamp": at.isoformat(),
            "prefect.orchestration": "client",
        },
        "related": [
            {
                "prefect.resource.id": f"prefect.flow-run.{run.id}",
                "prefect.resource.role": "flow-run",
                "prefect.resource.name": run.name,
            }
        ],
        "payload": {
            "intended": {"from": None, "to": state},
            "initial_state": None,
            "validated_state": {
                "type": state,
                "name": name,
                "message": message,
                "state_details": details,
                "data": None,
            },
            "task_run": task_run,
        },
    }


def _task_run_id(run_id: UUID, gate: str) -> UUID:
    """The same for the same gate of the same run, so that it is there once."""
    return uuid5(NAMESPACE_URL, f"linekeeper:{run_id}:{gate}")


async def _read(client: PrefectClient, run_id: str) -> FlowRun | None:
    try:
        return await client.read_flow_run(UUID(run_id))
    except ObjectNotFound:
        return None
