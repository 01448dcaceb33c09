"""Configuring a connection: one run that writes, reads, waits for webhooks, verifies.

A worker's part is played here: the run is executed as a worker's process executes it.
"""

import itertools
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from sqlmodel import col, select

import sandbox
from flows.workflow_configuration import workflow_configuration
from linekeeper.clock import utcnow
from linekeeper.customers.succession import succeed
from linekeeper.reconcile.service import ReconcileRun
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import (
    Audit,
    Connection,
    ConnectionSetting,
    WorkflowConfiguration,
)
from linekeeper.workflow_configuration.service import read_connection, watch
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tests.delivering import deliver_runs
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import begin, edges, work
from tests.flows.test_reconcile_flows import rt
from tests.reconcile.conftest import Peer, deliver, process

__all__ = ["rt"]  # a fixture
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    on_both,
]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CHAIN = [
    "write settings",
    "first full read",
    "first full read complete",
    "webhooks seen",
    "clean reconcile",
    "verified",
]


@pytest.fixture
async def peer(running: Running, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Peer]:
    """A sandbox whose fleet is configured."""
    box = sandbox.Settings(
        port=0, connections=2, records_per_connection=20, per_minute=0, scenario="quiet"
    )
    async with sandbox.serving(box) as served, httpx.AsyncClient() as http:
        for name, value in {
            "MAKINI_API_URL": served.url,
            "MAKINI_CLIENT_ID": "sandbox-client",
            "MAKINI_CLIENT_SECRET": box.client_secret,
            "MAKINI_MODE": "manage",
            "MAKINI_PER_MINUTE": "0",
            "FORWARD_TARGETS": f"crm = http://127.0.0.1:9/hooks {SECRET}",
            "PUBLIC_URL": "https://linekeeper.example",
        }.items():
            monkeypatch.setenv(f"LINEKEEPER_{name}", value)
        yield Peer(served.url, http)


async def kept(rt: Runtime) -> WorkflowConfiguration:
    async with rt.store.read() as session:
        return (await session.scalars(select(WorkflowConfiguration))).one()


async def test_a_connection_is_configured_waits_for_its_webhooks_and_is_verified_in_one_graph(
    rt: Runtime, peer: Peer, running: Running, settings: Settings, clean_prefect: PrefectServer
) -> None:
    async with rt.store.read() as session:
        [connection, _] = await session.scalars(select(Connection).order_by(col(Connection.id)))
    form = {
        "connection": connection.makini_key,
        "entities": ["assets", "eam/sites"],
        "cadence": 30,
        "bodies": "keep",
        "forward_to": "crm",
        "by": "Olaf",
    }
    with on(clean_prefect):
        run = await begin(running, workflow_configuration, **form)
        assert run.state is not None
        assert run.state.is_paused(), run.state
        assert run.name.endswith("waits for webhooks")
        async with rt.store.read() as session:
            rows = list(await session.scalars(select(ConnectionSetting)))
        assert {
            (row.entity, row.cadence_minutes, row.keep_bodies, row.forward_to) for row in rows
        } == {("eam/assets", 30, True, "crm"), ("eam/sites", 30, True, "crm")}
        for state in await running.client.read_flow_run_states(run.id):
            assert SECRET not in state.model_dump_json()
        assert SECRET not in run.model_dump_json()
        await edges(running, run.id, 3)  # the server records task runs a little later
        truth = (await peer.truth())[connection.makini_key]
        await deliver(rt, connection.makini_key, list(truth["eam/assets"])[:1])
        await process(rt)
        assert await watch(rt, now=utcnow()) == 0  # sites are still missing
        await deliver(rt, connection.makini_key, list(truth["eam/sites"])[:1], plural="sites")
        await process(rt)
        assert await watch(rt, now=utcnow()) == 1
        async with PrefectOrchestrator.open(settings) as orchestrator:
            await deliver_runs(rt.store, orchestrator, "test")
        run = await work(running, workflow_configuration, run.id)
    assert run.state is not None
    assert run.state.is_completed(), run.state
    assert "verified" in (run.state.message or "")
    row = await kept(rt)
    assert row.verified_at is not None
    assert row.reconciled_at is not None
    labels, lines = await edges(running, run.id, len(CHAIN))
    assert labels == sorted(CHAIN)
    assert lines == set(itertools.pairwise(CHAIN))


async def test_a_person_may_say_that_webhooks_are_not_waited_for_and_drift_keeps_it_waiting(
    rt: Runtime, peer: Peer, running: Running, settings: Settings, clean_prefect: PrefectServer
) -> None:
    async with rt.store.read() as session:
        [connection, _] = await session.scalars(select(Connection).order_by(col(Connection.id)))
    with on(clean_prefect):
        run = await begin(
            running, workflow_configuration, connection=connection.makini_key, entities=["assets"]
        )
        await edges(running, run.id, 3)
        await peer.set("records", connection=connection.makini_key, change=3, announce=False)
        await running.client.resume_flow_run(
            run.id, run_input={"accept": True, "note": "they never change", "by": "Olaf"}
        )
        run = await work(running, workflow_configuration, run.id)
        assert run.name.endswith("waits for a clean reconcile"), run.state
        await edges(running, run.id, 5)
        async with rt.store.write() as session:
            row = (await session.scalars(select(WorkflowConfiguration))).one()
            assert row.look_at is not None
            row.look_at -= timedelta(minutes=16)
        assert await watch(rt, now=utcnow()) == 1
        async with PrefectOrchestrator.open(settings) as orchestrator:
            await deliver_runs(rt.store, orchestrator, "test")
        run = await work(running, workflow_configuration, run.id)
    assert run.state is not None
    assert run.state.is_completed(), run.state
    assert (await kept(rt)).webhooks_accepted


async def test_it_goes_on_with_a_connection_that_is_called_something_else_by_now(
    rt: Runtime, running: Running, settings: Settings, clean_prefect: PrefectServer
) -> None:
    async with rt.store.write() as session:
        [connection, _] = await session.scalars(select(Connection).order_by(col(Connection.id)))
        connection.name = "Before"
    with on(clean_prefect):
        run = await begin(
            running,
            workflow_configuration,
            connection="Before",
            entities=["assets"],
            by="Olaf",
        )
        assert run.name.endswith("waits for webhooks")
        async with rt.store.write() as session:
            (await session.get_one(Connection, connection.id)).name = "Behind"
        await running.client.resume_flow_run(
            run.id, run_input={"accept": True, "by": "Olaf", "note": "no webhooks there"}
        )
        run = await work(running, workflow_configuration, run.id)
    assert run.state is not None
    assert run.state.name == "Completed", run.state
    assert (await kept(rt)).verified_at is not None


async def test_a_connection_that_is_replaced_while_it_is_read_hands_on_its_configuration(
    rt: Runtime, running: Running, clean_prefect: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rt.store.read() as session:
        [before, after] = await session.scalars(select(Connection).order_by(col(Connection.id)))

    async def replaced(rt: Runtime, connection_id: str) -> ReconcileRun:
        run = await read_connection(rt, connection_id)
        if connection_id == before.id:
            why = {"source": "sweep", "message": "a new login", "now": utcnow()}
            async with rt.store.write() as session:
                await succeed(rt.store, session, before.id, after.id, **why)
        return run

    monkeypatch.setattr("linekeeper.workflow_configuration.service.read_connection", replaced)
    with on(clean_prefect):
        run = await begin(
            running,
            workflow_configuration,
            connection=before.makini_key,
            entities=["assets"],
            by="Olaf",
        )
    assert run.state is not None
    assert run.state.name == "Suspended", run.state
    assert run.name.endswith("waits for the first full read")
    assert (await kept(rt)).connection_id == after.id


async def test_what_cannot_be_configured_is_refused_and_nothing_is_written(
    rt: Runtime, running: Running, clean_prefect: PrefectServer
) -> None:
    async with rt.store.read() as session:
        [connection, _] = await session.scalars(select(Connection).order_by(col(Connection.id)))
    with on(clean_prefect):
        for wrong in (
            {"connection": "nobody"},
            {"connection": connection.makini_key, "entities": ["nonsense"]},
            {"connection": connection.makini_key, "cadence": 99_999_999},
            {"connection": connection.makini_key, "forward_to": "nowhere"},
        ):
            state = await workflow_configuration(**wrong, return_state=True)
            assert state.name == "Refused", state
            assert "nothing was changed" in (state.message or "")
    async with rt.store.read() as session:
        assert not list(await session.scalars(select(ConnectionSetting)))


async def test_what_a_form_was_answered_is_taken_or_the_next_form_says_why_not(
    rt: Runtime, peer: Peer, running: Running, clean_prefect: PrefectServer
) -> None:
    async with rt.store.read() as session:
        [connection, _] = await session.scalars(select(Connection).order_by(col(Connection.id)))
    with on(clean_prefect):
        run = await begin(
            running, workflow_configuration, connection=connection.makini_key, entities=["assets"]
        )
        await running.client.resume_flow_run(run.id, run_input={"accept": True, "note": "dull"})
        run = await work(running, workflow_configuration, run.id)
        assert run.name.endswith("waits for webhooks"), run.state
        question = await running.client.request(
            "GET", f"/flow_runs/{run.id}/input/suspended-answer-1-description"
        )
        assert "Your last answer was not taken:** say who you are" in question.text
    async with rt.store.read() as session:
        actions = await session.scalars(select(col(Audit.action)))
    assert "connection.configuration_answered" in set(actions)


async def test_a_run_whose_connection_was_disconnected_ends_and_is_not_resumed_for_ever(
    rt: Runtime, peer: Peer, running: Running, clean_prefect: PrefectServer
) -> None:
    async with rt.store.read() as session:
        [connection, _] = await session.scalars(select(Connection).order_by(col(Connection.id)))
    with on(clean_prefect):
        run = await begin(
            running,
            workflow_configuration,
            connection=connection.makini_key,
            entities=["assets"],
            by="Olaf",
        )
        assert run.name.endswith("waits for webhooks")
        async with rt.store.write() as session:
            (await session.get_one(Connection, connection.id)).setup = "disconnected"
        later = utcnow() + timedelta(minutes=16)
        assert await watch(rt, now=later) == 1
        await running.client.resume_flow_run(run.id, run_input={"by": "linekeeper"})
        run = await work(running, workflow_configuration, run.id)
    assert run.state is not None
    assert run.state.name == "Refused", run.state
    assert await watch(rt, now=later + timedelta(minutes=1)) == 0
    assert await watch(rt, now=later + timedelta(days=1)) == 0


async def test_a_run_that_a_later_one_replaces_ends(
    rt: Runtime, peer: Peer, running: Running, settings: Settings, clean_prefect: PrefectServer
) -> None:
    """It waited for half a year, and its form was answered for nothing."""
    async with rt.store.read() as session:
        [connection, _] = await session.scalars(select(Connection).order_by(col(Connection.id)))
    form = {"connection": connection.makini_key, "by": "Olaf"}
    with on(clean_prefect):
        first = await begin(running, workflow_configuration, **form, entities=["assets"])
        second = await begin(running, workflow_configuration, **form, entities=["sites"])
        async with PrefectOrchestrator.open(settings) as orchestrator:
            await deliver_runs(rt.store, orchestrator, "test")
        first = await work(running, workflow_configuration, first.id)
    assert first.state is not None
    assert first.state.name == "Skipped", first.state
    assert first.name.endswith("replaced")
    assert (await kept(rt)).run_id == str(second.id)
    async with rt.store.read() as session:
        assert list(await session.scalars(select(col(ConnectionSetting.entity)))) == ["eam/sites"]
