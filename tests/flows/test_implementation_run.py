"""An implementation is one run: its graph in Prefect, edge by edge, from kickoff to its end.

A worker's part is played here: the run is executed as a worker's process executes it.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from sqlmodel import col, select

from flows.advance_implementations import advance_implementations
from flows.gate import gate
from flows.implementation import implementation
from flows.implementation_abandon import implementation_abandon
from flows.implementation_skip import implementation_skip
from linekeeper.clock import utcnow
from linekeeper.implementation import queries
from linekeeper.implementation.answer import GateAnswer, answer, ask
from linekeeper.implementation.run import run_key
from linekeeper.implementation.standing import Standing
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Gate, Implementation, Outbox
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tests.delivering import deliver_runs
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import asks, work
from tests.newest_runs import newest_runs

pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]

FORM: dict[str, Any] = {
    "customer": "Acme",
    "systems": [{"name": "SAP ECC"}, {"name": "Maximo"}],
    "complexity": "custom",
    "custom_workflows": 1,
    "by": "Olaf",
    "owner": "Petra",
}


class Graph:
    """What Prefect's page of a run draws."""

    def __init__(self, answer: dict[str, Any]) -> None:
        nodes = [node for _, node in answer["nodes"]]
        self.labels = [node["label"] for node in nodes]
        self.nodes = {node["label"]: node for node in nodes}
        names = {node["id"]: node["label"] for node in nodes}
        self.edges = {
            (names[parent["id"]], node["label"]) for node in nodes for parent in node["parents"]
        }

    def at(self, label: str, which: str) -> datetime:
        return datetime.fromisoformat(self.nodes[label][which])


class Watched:
    """One implementation's run, and what the consumer and a worker do for it."""

    def __init__(self, running: Running, store: Store, settings: Settings) -> None:
        self.running, self.store, self.settings = running, store, settings
        self.run_id: UUID | None = None

    async def start(self) -> FlowRun:
        """Send the form, and let a worker have the run."""
        flow_id = await self.running.client.create_flow_from_name("implementation")
        deployment = await self.running.client.create_deployment(flow_id, "implementation")
        gates = await self.running.client.create_flow_from_name("gate")
        await self.running.client.create_deployment(gates, "gate")
        run = await self.running.client.create_flow_run_from_deployment(
            deployment, parameters=FORM | {"kickoff": utcnow().date().isoformat()}
        )
        return await self.work(run.id)

    async def work(self, run_id: UUID) -> FlowRun:
        """What a worker's process does with a run; it ends when the run suspends."""
        self.run_id = run_id
        return await work(self.running, implementation, run_id)

    async def woken(self) -> FlowRun:
        """Deliver what wakes the run, as the consumer does, and let a worker have it."""
        assert self.run_id is not None
        async with PrefectOrchestrator.open(self.settings) as orchestrator:
            await deliver_runs(self.store, orchestrator, "test")
        run = await self.running.client.read_flow_run(self.run_id)
        assert run.state is not None
        assert run.state.is_scheduled(), run.state
        return await self.work(self.run_id)

    async def graph(self, shows: dict[str, str]) -> Graph:
        """The graph, once these nodes have these types of state: the server records them late."""

        seen: dict[str, str | None] = {}
        for _ in range(150):
            found = await self.running.client.request("GET", f"/flow_runs/{self.run_id}/graph-v2")
            graph = Graph(found.json())
            seen = {label: graph.nodes.get(label, {}).get("state_type") for label in shows}
            if seen == shows:
                return graph
            await asyncio.sleep(0.2)
        raise AssertionError(f"the graph shows {seen}")

    async def standing(self) -> Standing:
        async with self.store.read() as session:
            identifier = await session.scalar(select(col(Implementation.id)))
            assert identifier is not None
            standing = await queries.load(session, identifier)
        assert standing is not None
        return standing

    async def says(self, gate: str, **given: str) -> None:
        """Answer the form of a gate."""
        row = (await self.standing()).gates[gate]
        await ask(self.store, row.id, run_id=f"form-of-{gate}")
        given = {"outcome": "done", "evidence": f"ticket about {gate}", "by": "Petra"} | given
        taken = await answer(
            self.store,
            row.id,
            GateAnswer(**given),
            number=row.answers,
            run_id=f"form-of-{gate}",
            now=utcnow(),
        )
        assert taken.progress is not None, taken.message


@pytest.fixture
def watched(
    running: Running, store: Store, settings: Settings, clean_prefect: PrefectServer
) -> Watched:
    return Watched(running, store, settings.model_copy(update={"prefect_port": clean_prefect.port}))


async def test_the_graph_has_every_gate_once_with_the_plans_edges_and_follows_the_work(
    watched: Watched, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        run = await watched.start()
        assert run.state is not None
        assert run.state.name == "Suspended"
        standing = await watched.standing()
        assert standing.implementation.run_id == str(run.id)
        titles = {step.id: step.title for step in standing.plan.gates}
        edges = {(titles[need], step.title) for step in standing.plan.gates for need in step.needs}
        kickoff, design = titles["kickoff"], titles["design"]
        graph = await watched.graph({kickoff: "RUNNING", design: "SCHEDULED"})
        assert sorted(graph.labels) == sorted(titles.values())
        assert graph.edges == edges
        assert graph.at(design, "start_time") > utcnow()
        assert graph.at(titles["go-live"], "start_time") > graph.at(design, "start_time")
        slug = standing.implementation.slug
        assert {"waiting:us", f"implementation:{slug}", "customer:acme"} <= set(run.tags)

        await watched.says("kickoff", outcome="blocked", evidence="nobody is there")
        run = await watched.woken()
        assert "waiting:customer" in run.tags
        await watched.graph({kickoff: "PAUSED"})

        await watched.says("kickoff", evidence="minutes of the meeting.")
        await watched.woken()
        graph = await watched.graph({kickoff: "COMPLETED", design: "RUNNING"})
        assert sorted(graph.labels) == sorted(titles.values())
        assert graph.edges == edges
        row = (await watched.standing()).gates["kickoff"]
        assert row.opened_at is not None
        assert row.done_at is not None
        near = timedelta(milliseconds=1)
        assert abs(graph.at(kickoff, "start_time") - row.opened_at) < near
        assert abs(graph.at(kickoff, "end_time") - row.done_at) < near
        shown = await watched.running.client.read_task_run(UUID(graph.nodes[kickoff]["id"]))
        assert shown.state is not None
        assert "minutes of the meeting." in (shown.state.message or "")
        assert ".." not in (shown.state.message or "")
        assert "by Petra" in (shown.state.message or "")

        listed = await watched.running.client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        )
        pages = sorted(str(artifact.data) for artifact in listed)
        assert pages
        assert pages == sorted(set(pages))  # once each, however often the run was woken

        for step in standing.plan.gates:
            if (await watched.standing()).gates[step.id].status not in ("done", "skipped"):
                await implementation_skip("Acme", step=step.id, by="Olaf", reason="shown elsewhere")
        run = await watched.woken()
        assert run.state is not None
        assert (run.state.name, run.state.type.value) == ("Live", "COMPLETED")
        graph = await watched.graph(dict.fromkeys(titles.values(), "COMPLETED"))
        assert graph.edges == edges
        skipped = await watched.running.client.read_task_run(UUID(graph.nodes[design]["id"]))
        assert skipped.state is not None
        assert (skipped.state.name, skipped.state.message) == (
            "Skipped",
            "Skipped by Olaf: shown elsewhere.",
        )


async def test_a_run_that_is_lost_is_made_again_with_the_times_that_are_known(
    watched: Watched, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        first = await watched.start()
        await watched.says("kickoff")
        await watched.woken()
        open_gate = (await watched.standing()).gates["design"]
        [form] = [
            one
            for one in await newest_runs(watched.running.client)
            if one.parameters.get("gate") == open_gate.id
        ]
        await work(watched.running, gate, form.id)
        assert f"/flow-run/{first.id})" in await asks(watched.running, form.id)
        calm = await advance_implementations(return_state=True)
        assert "lost" not in (calm.message or "")
        await watched.running.client.delete_flow_run(first.id)
        for found in ("1 lost run started again", "0 slipping"):  # once, however often it looks
            said = await advance_implementations(return_state=True)
            assert found in (said.message or ""), said.message

        async with PrefectOrchestrator.open(watched.settings) as orchestrator:
            await deliver_runs(watched.store, orchestrator, "test")
        lost_key = run_key((await watched.standing()).implementation)
        [run] = [
            one
            for one in await newest_runs(watched.running.client)
            if one.idempotency_key == lost_key
        ]
        run = await watched.work(run.id)
        assert run.state is not None
        assert run.state.name == "Suspended"
        standing = await watched.standing()
        assert standing.implementation.run_id == str(run.id)
        kickoff = standing.gates["kickoff"]
        graph = await watched.graph({kickoff.title: "COMPLETED"})
        shown = await watched.running.client.read_task_run(UUID(graph.nodes[kickoff.title]["id"]))
        assert shown.state is not None
        assert "restored from Linekeeper's records" in (shown.state.message or "")
        assert run.start_time is not None
        assert graph.at(kickoff.title, "end_time") < run.start_time
        assert f"/flow-run/{run.id})" in await asks(watched.running, form.id)


async def test_the_same_form_again_moves_on_and_ends_and_an_abandoned_one_ends_its_run(
    watched: Watched, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        first = await watched.start()
        again = await watched.running.client.create_flow_run_from_deployment(
            UUID(str(first.deployment_id)),
            parameters=dict(first.parameters),
        )
        ended = await watched.work(again.id)
        assert ended.state is not None
        assert ended.state.name == "Completed"
        assert "was there already" in (ended.state.message or "")
        watched.run_id = first.id
        form = await implementation_abandon(
            "Acme", by="Olaf", reason="they went elsewhere", return_state=True
        )
        assert (form.message or "").endswith("was abandoned: they went elsewhere.")
        over = await watched.woken()
        assert over.state is not None
        assert over.state.name == "Abandoned"
        titles = [row.title for row in (await watched.standing()).gates.values()]
        graph = await watched.graph({titles[-1]: "CANCELLED"})
        assert len(graph.labels) == len(titles)


async def test_what_moves_while_the_run_works_wakes_it_when_it_is_suspended_and_only_once(
    watched: Watched, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        run = await watched.start()
        client = watched.running.client
        await watched.says("kickoff")
        async with PrefectOrchestrator.open(watched.settings) as orchestrator:
            assert await orchestrator.wake_run(str(run.id))  # somebody presses Resume
            await deliver_runs(watched.store, orchestrator, "test")
        waiting = select(Outbox).where(
            col(Outbox.dedupe_key).contains(":wake:"), col(Outbox.status) == "pending"
        )
        async with watched.store.read() as session:
            due = [row for row in await session.scalars(waiting) if "works" in (row.error or "")]
        assert due, "the run was at work, and what woke it was dropped"
        await watched.work(run.id)
        async with watched.store.read() as session:
            gates = list(await session.scalars(select(Gate).where(col(Gate.status) == "open")))
            tried = [row for row in await session.scalars(waiting) if row.attempts]
        assert gates
        assert not tried, "it would be woken again for what it has just seen"
        state = (await client.read_flow_run(run.id)).state
        assert state is not None
        assert state.name == "Suspended"
