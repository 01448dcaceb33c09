"""Runs that suspend, worked on as a worker does, and their graphs."""

import asyncio
import json
import re
from contextlib import suppress
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow_async

from tasks.prefect_adapter import links
from tests.flows.conftest import Running


async def work(running: Running, flow: Flow[Any, Any], run_id: UUID) -> FlowRun:
    """What a worker's process does with a run of `flow`; it ends when the run suspends.

    The next one is a process of its own: it remembers nothing.
    """
    links._listed.clear()
    links._run_knows.clear()
    run = await running.client.read_flow_run(run_id)
    with suppress(Pause):
        await run_flow_async(
            flow, flow_run=run, parameters=dict(run.parameters), return_type="state"
        )
    return await running.client.read_flow_run(run_id)


async def begin(running: Running, flow: Flow[Any, Any], **parameters: Any) -> FlowRun:
    """A deployed run of `flow`, worked on until it ends or suspends."""
    flow_id = await running.client.create_flow_from_name(flow.name)
    deployment = await running.client.create_deployment(flow_id, flow.name)
    run = await running.client.create_flow_run_from_deployment(deployment, parameters=parameters)
    return await work(running, flow, run.id)


async def edges(
    running: Running, run_id: UUID, nodes: int
) -> tuple[list[str], set[tuple[str, str]]]:
    """The labels of the run's graph, and its edges, once it shows so many nodes.

    A task run is called as its task, with a few digits behind it, until its own name is there.
    """
    shown: list[Any] = []
    for _ in range(150):
        answer = await running.client.request("GET", f"/flow_runs/{run_id}/graph-v2")
        shown = [node for _, node in answer.json()["nodes"]]
        named = not any(re.search(r"-[0-9a-f]{3}$", node["label"]) for node in shown)
        if len(shown) >= nodes and named:
            break
        await asyncio.sleep(0.2)
    labels = {node["id"]: node["label"] for node in shown}
    return sorted(labels.values()), {
        (labels[parent["id"]], node["label"]) for node in shown for parent in node["parents"]
    }


async def asks(running: Running, run_id: UUID) -> str:
    """What the form of a suspended run says."""
    run = await running.client.read_flow_run(run_id)
    assert run.state is not None
    keys = run.state.state_details.run_input_keyset
    assert keys is not None, run.state
    return str(json.loads(await running.client.read_flow_run_input(run_id, keys["description"])))
