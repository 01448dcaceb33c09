"""health-sweep, check-connection and adopt, run as Prefect runs them against a sandbox."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import State
from prefect.variables import Variable
from pydantic import SecretStr
from sqlalchemy import select
from sqlmodel import col

import sandbox
from flows.adopt import adopt
from flows.check_connection import check_connection
from flows.health_sweep import health_sweep
from linekeeper.budget import DatabaseBudget
from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.orchestrator import Blocks
from linekeeper.store import Store
from linekeeper.store.configuration import save_blocks
from linekeeper.store.leases import holding
from linekeeper.store.tables import Connection, Customer, Incident, Outbox
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import edges
from tests.flows.test_reconnect_flows import adopted

pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

Control = Callable[..., Awaitable[None]]


@pytest.fixture
async def box(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[sandbox.Served]:
    """A Makini with six connections, managed by the flows that run here."""
    settings = sandbox.Settings(port=0, connections=6, scenario="quiet", per_minute=0)
    async with sandbox.serving(settings) as serving:
        for name, value in {
            "MAKINI_API_URL": serving.url,
            "MAKINI_CLIENT_ID": "sandbox-client",
            "MAKINI_CLIENT_SECRET": "sandbox-secret",
            "MAKINI_MODE": "manage",
            "MAKINI_PER_MINUTE": "0",
            "PROBE_MINUTES": "0",
        }.items():
            monkeypatch.setenv(f"LINEKEEPER_{name}", value)
        yield serving


@pytest.fixture
def control(box: sandbox.Served) -> Control:
    """`await control(path, **body)`: what happens at Makini."""

    async def post(path: str, **body: Any) -> None:
        async with httpx.AsyncClient() as client:
            (await client.post(f"{box.url}/_control/{path}", json=body)).raise_for_status()

    return post


async def connections(store: Store) -> list[Connection]:
    async with store.read() as session:
        return list(await session.scalars(select(Connection).order_by(col(Connection.id))))


async def failed_tasks(running: Running) -> list[str]:
    """The names of the last run's failed task runs."""
    run = await running.last()
    tasks = await running.client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    )
    return [one.name for one in tasks if one.state is not None and one.state.is_failed()]


async def test_checked_counts_what_was_asked(
    running: Running,
    clean_prefect: PrefectServer,
    store: Store,
    box: sandbox.Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LINEKEEPER_MAKINI_MODE", "observe")
    with on(clean_prefect):
        state: State[None] = await health_sweep(return_state=True)
    assert state.message == "nothing was due, 6 judged by Makini's list alone, no trouble known"
    assert (await running.last()).name == "sweep · no trouble known"


async def test_a_sweep_with_nothing_due_calls_nobody_healthy(
    running: Running,
    clean_prefect: PrefectServer,
    store: Store,
    control: Control,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def sweep() -> tuple[str, str]:
        with on(clean_prefect):
            state: State[None] = await health_sweep(return_state=True)
        return (await running.last()).name, state.message or ""

    monkeypatch.setenv("LINEKEEPER_PROBE_MINUTES", "60")
    monkeypatch.setattr("tasks.run.get_run_logger", lambda: logging.getLogger("a run"))
    caplog.set_level(logging.INFO, "a run")
    assert await sweep() == ("sweep · all healthy", "6 checked, all healthy")
    assert await sweep() == ("sweep · no trouble known", "nothing was due, no trouble known")
    # What Prefect shows of a key is the list of its versions, and not what they say.
    assert "/artifacts/artifact/" in caplog.messages[-1].partition("all connections: ")[2]
    [victim, *_] = await connections(store)
    await control(f"connections/{victim.makini_key}/change-credentials")
    async with store.write() as session:
        (await session.get_one(Connection, victim.id)).next_probe_at = None
    name, message = await sweep()
    assert name == "sweep · 1 new problem"
    assert message.startswith("1 checked, 1 new problem: ")


async def test_red_means_new(
    running: Running, clean_prefect: PrefectServer, store: Store, control: Control
) -> None:
    async def sweep() -> tuple[str, str, str]:
        with on(clean_prefect):
            state: State[None] = await health_sweep(return_state=True)
        return (state.name or "", (await running.last()).name, state.message or "")

    assert await sweep() == ("Completed", "sweep · all healthy", "6 checked, all healthy")
    [victim, other, *_] = await connections(store)
    await control(f"connections/{victim.makini_key}/change-credentials")
    name, title, message = await sweep()
    assert (name, title) == ("Failed", "sweep · 1 new problem")
    assert message.startswith("6 checked, 1 new problem: ")
    assert "Reauthorization required" in message
    [task] = await failed_tasks(running)
    assert victim.name.split(" · ")[0] in task

    assert (await sweep())[:2] == ("Completed", "sweep · 1 known")
    await control(f"connections/{other.makini_key}/deactivate")
    assert (await sweep())[:2] == ("Failed", "sweep · 1 new problem, 1 known")

    page = await running.artifact("fleet")
    assert "data:image/svg+xml;base64," in page
    assert victim.name in page
    own = await running.artifact(f"connection-{victim.slug}")
    assert "Reauthorization required" in own
    assert "req\\_" in own or "req_" in own  # what Makini's support asks for

    for connection in (victim, other):
        await control(f"connections/{connection.makini_key}/mend")
    assert (await sweep())[:2] == ("Completed", "sweep · all healthy")
    async with store.read() as session:
        assert set(await session.scalars(select(Incident.status))) == {"resolved"}


async def test_the_graph_leads_from_the_list_to_batches_to_who_is_in_trouble_to_pages_to_slack(
    running: Running,
    clean_prefect: PrefectServer,
    store: Store,
    box: sandbox.Served,
    control: Control,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LINEKEEPER_SLACK_BOT_TOKEN", sandbox.Settings().slack_token)
    monkeypatch.setenv("LINEKEEPER_SLACK_CHANNEL", "#linekeeper")
    monkeypatch.setenv("LINEKEEPER_SLACK_API_URL", f"{box.url}/slack/api/")
    await adopted()
    with on(clean_prefect):
        [victim, other, *_] = await connections(store)
        await control(f"connections/{victim.makini_key}/change-credentials")
        await control(f"connections/{other.makini_key}/deactivate")
        await health_sweep(return_state=True)
        run = await running.last()
        labels, lines = await edges(running, run.id, 8)
        tasks = await running.client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
        )
        shown = await running.client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        )
    async with store.read() as session:
        events = list(await session.scalars(select(Outbox).where(col(Outbox.channel) == "event")))
    resources = {
        resource["prefect.resource.id"] for event in events for resource in event.payload["related"]
    }
    assert f"prefect.flow-run.{run.id}" in resources
    red = {task.name: task for task in tasks if task.state and task.state.is_failed()}
    assert len(red) == 2
    batch, pages, fleet = "probe default, batch 1", "update connection pages", "update fleet page"
    everything = "update connections page"
    listed = "list connections of default"
    assert labels == sorted([listed, batch, *red, pages, fleet, everything, "notify"])
    assert lines == {
        (listed, batch),
        *((batch, name) for name in red),
        *((name, pages) for name in red),
        (pages, fleet),
        (fleet, everything),
        (everything, "notify"),
    }
    async with store.read() as session:
        customer = await session.get_one(Customer, victim.customer_id)
    [lost] = [task for name, task in red.items() if victim.provider in name]
    assert {f"customer:{customer.slug}", "health:reauthorization_required"} <= set(lost.tags)
    assert any(tag.startswith("provider:") for tag in lost.tags)
    assert lost.state is not None
    page = f"http://{clean_prefect.host}:{clean_prefect.port}/artifacts/key/"
    assert f"{page}connection-{victim.slug} " in (lost.state.message or "")
    pages_of = [f"connection-{connection.slug}" for connection in (victim, other)]
    keys = ["fleet", "audit", "connections", *pages_of]
    links = sorted(str(artifact.data).partition("](http")[0] for artifact in shown)
    assert links == sorted(f"[{key}" for key in keys)


def managed_app(box: sandbox.Served, **fields: Any) -> AppConfig:
    """An app of the sandbox."""
    return AppConfig(
        mode="manage",
        api_url=box.url,
        client_id="sandbox-client",
        client_secret=SecretStr("sandbox-secret"),
        **fields,
    )


@pytest.mark.repeats(
    "reconcile/test_budget_incident.py::test_it_opens_with_figures_and_ends_once_there_is_something_to_spare"
)
async def test_a_call_budget_that_is_too_small_is_one_incident_until_there_is_enough(
    running: Running, clean_prefect: PrefectServer, store: Store, box: sandbox.Served
) -> None:
    entities = [f"eam/many-{number}" for number in range(400)]
    many = managed_app(box, name="default", per_minute=120, entities=entities)
    for per_minute, ends in ((120, "Failed"), (120, "Completed"), (0, "Completed")):
        app = many.model_copy(update={"per_minute": per_minute})
        await save_blocks(store, Blocks(apps=[app]), now=utcnow())
        with on(clean_prefect):
            state = await health_sweep(return_state=True)
        assert state.name == ends, state.message
        async with store.read() as session:
            [incident] = await session.scalars(select(Incident))
        assert incident.kind == "budget_too_small"
        assert "6 connections share" in incident.summary
        assert incident.status == ("resolved" if per_minute == 0 else "open")


async def test_who_is_not_probed_for_a_pause_is_named_and_not_called_healthy(
    running: Running,
    clean_prefect: PrefectServer,
    store: Store,
    box: sandbox.Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LINEKEEPER_MAKINI_PER_MINUTE", "6000")
    await adopted()
    [paused, *_] = await connections(store)
    until = utcnow() + timedelta(minutes=40)
    await DatabaseBudget(store).penalise("default", until, connection=paused.makini_key)
    with on(clean_prefect):
        state: State[None] = await health_sweep(return_state=True)
    assert state.message == (
        "5 checked, no trouble known; 1 not probed: Makini asked for a pause of their calls"
    )
    assert (await running.last()).name == "sweep · no trouble known"


async def test_who_is_not_probed_is_said_with_its_app_where_there_are_several(
    running: Running, clean_prefect: PrefectServer, store: Store, box: sandbox.Served
) -> None:
    apps = [managed_app(box, name=name, per_minute=6000) for name in ("default", "second")]
    await save_blocks(store, Blocks(apps=apps), now=utcnow())
    with on(clean_prefect):
        await health_sweep(return_state=True)
    until = utcnow() + timedelta(minutes=40)
    for app in ("default", "second"):
        paused = next(each for each in await connections(store) if each.app == app)
        await DatabaseBudget(store).penalise(app, until, connection=paused.makini_key)
    with on(clean_prefect):
        state: State[None] = await health_sweep(return_state=True)
    words = "1 not probed: Makini asked for a pause of their calls"
    assert str(state.message).endswith(f"; app default: {words}; app second: {words}")


@pytest.mark.usefixtures("impatient")
async def test_no_answer_is_tried_again_and_then_an_observation_not_a_failure(
    running: Running, clean_prefect: PrefectServer, store: Store, control: Control
) -> None:
    await adopted()
    with on(clean_prefect):
        [victim, *_] = await connections(store)
        await control(f"connections/{victim.makini_key}/go-offline")
        state = await health_sweep(return_state=True)
    assert state.name == "Completed", state.message
    assert await running.probe_tries() == [3]  # its retries are seen in the UI
    [victim, *_] = await connections(store)
    assert (victim.health, victim.suspect) == ("healthy", True)


async def test_without_an_app_it_says_what_to_fill_in(
    running: Running, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        state = await health_sweep(return_state=True)
    assert state.name == "Failed"
    assert "fill in a MakiniApp block" in (state.message or "")


async def test_paused_or_already_running_ends_skipped(
    running: Running,
    clean_prefect: PrefectServer,
    store: Store,
    box: sandbox.Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with on(clean_prefect):
        await Variable.aset("linekeeper_paused", True)
        state = await health_sweep(return_state=True)
        await Variable.aunset("linekeeper_paused")
        assert (state.name, await connections(store)) == ("Skipped", [])
        monkeypatch.setattr("tasks.run.by_hand", lambda: False)
        async with holding(store, "health-sweep", "another worker", wait=False) as held:
            assert held is not None
            state = await health_sweep(return_state=True)
    assert (state.name, await connections(store)) == ("Skipped", [])


async def test_one_connection_is_checked_by_any_of_its_names(
    running: Running, clean_prefect: PrefectServer, store: Store, control: Control
) -> None:
    with on(clean_prefect):
        assert (await adopt(dry_run=True, return_state=True)).message == (
            "6 would be adopted, 0 would be changed, 0 known"
        )
        assert await connections(store) == []
        await adopt(dry_run=False, return_state=True)
        [victim, *_] = await connections(store)
        state = await check_connection(victim.makini_key, return_state=True)
        assert state.name == "Completed", state.message
        await control(f"connections/{victim.makini_key}/change-credentials")
        state = await check_connection(victim.name, return_state=True)
        assert state.name == "Failed"
        assert "Reauthorization required since" in (state.message or "")
        assert "Reauthorization required" in (await running.last()).name
        state = await check_connection(victim.name[:-2], return_state=True)
    assert state.name == "Refused"
    assert victim.name in (state.message or "")  # the nearest ones
    assert utcnow() > victim.created_at
