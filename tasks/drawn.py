"""Steps of a run that are not tasks of Prefect's, drawn in its graph.

Prefect's own clients report task runs as events, which carry their times with them. These steps are
reported in the same way: so each stands in the graph at its own time, also when it is reported
late, and is there once, however often it is reported.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun

from linekeeper.graph import Node
from tasks.graph import edge
from tasks.prefect_adapter.names import every

TICK = timedelta(milliseconds=1)


def drawn_state(run_id: UUID, key: str) -> State[Any]:
    """What a task waits for that comes after the drawn step `key`: the edge of the graph."""
    return edge(run_id, _task_run_id(run_id, key))


async def draw(
    client: PrefectClient,
    run: FlowRun,
    task_key: str,
    nodes: Sequence[Node],
    *,
    now: datetime,
    final: bool = False,
) -> list[Node]:
    """Report the steps of a run that are otherwise than the server knows them; returns those.

    With `final` a step that ended stays as it was reported.
    """
    known = await _known(client, run.id)
    changed = [node for node in nodes if not _is_shown(known.get(node.key), node, final=final)]
    events = [
        event
        for node in changed
        for event in _events(run, task_key, node, known.get(node.key), now)
    ]
    if events:
        await client.request("POST", "/events", json=events)
    return changed


async def _known(client: PrefectClient, run_id: UUID) -> dict[str, TaskRun]:
    ours = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    runs = await every(client.read_task_runs, flow_run_filter=ours)
    return {run.dynamic_key: run for run in runs}


def _is_shown(known: TaskRun | None, node: Node, *, final: bool) -> bool:
    if known is None or known.state is None:
        return False
    state = known.state
    if final and state.is_final():
        return True
    start = known.start_time or known.expected_start_time
    return (state.type, state.name, state.message, start, known.end_time) == (
        StateType(node.state),
        node.name,
        node.message,
        node.start,
        node.end,
    )


def _events(
    run: FlowRun, task_key: str, node: Node, known: TaskRun | None, now: datetime
) -> list[dict[str, Any]]:
    """What a client would have reported; each later than what the server knows of the step."""
    at = {"SCHEDULED": min(node.start, now), "PAUSED": now}.get(node.state, node.end or node.start)
    if known is not None and known.state is not None:
        at = max(at, known.state.timestamp + TICK)
    events = [_event(run, task_key, node, at)]
    if known is None and node.state != "SCHEDULED":
        opened = replace(node, state="RUNNING", name="Running", message="It began.", end=None)
        events.insert(0, _event(run, task_key, opened, min(node.start, at - TICK)))
    return events


def _event(run: FlowRun, task_key: str, node: Node, at: datetime) -> dict[str, Any]:
    """The report that a step is in the state of `node` since `at`."""
    state, name, message, end = node.state, node.name, node.message, node.end
    identifier = _task_run_id(run.id, node.key)
    waits = state == "SCHEDULED"
    task_run: dict[str, Any] = {
        "task_key": task_key,
        "dynamic_key": node.key,
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


def _task_run_id(run_id: UUID, key: str) -> UUID:
    """The same for the same step of the same run, so that it is there once."""
    return uuid5(NAMESPACE_URL, f"linekeeper:{run_id}:{key}")
