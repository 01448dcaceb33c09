"""An implementation starts authentication-setup and workflow-configuration by itself.

A worker's part is played here: the run is executed as a worker's process executes it.
"""

from typing import Any

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun
from sqlmodel import col, select

import sandbox
from flows.advance_implementations import advance_implementations
from flows.authentication_setup import authentication_setup
from flows.gate import gate as gate_flow
from flows.workflow_configuration import workflow_configuration
from linekeeper.authentication_setup.watch import watch as watch_setups
from linekeeper.clock import utcnow
from linekeeper.implementation import work as works
from linekeeper.implementation.answer import GateAnswer, answer, ask
from linekeeper.implementation.order import Form
from linekeeper.implementation.start import start
from linekeeper.implementation.watch import watch
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import (
    AuthenticationSetup,
    Connection,
    ConnectionSetting,
    ConnectLink,
    Gate,
    Implementation,
)
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tests.delivering import deliver_runs
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on
from tests.flows.suspended import begin, edges, work
from tests.flows.test_authentication_setup import box, log_in, rows, rt
from tests.newest_runs import newest_runs

__all__ = ["box", "rt"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.parametrize("engine", ["sqlite"], indirect=True, scope="session"),
]


@pytest.fixture
async def deployed(running: Running) -> Running:
    """A Prefect that knows the flows that an implementation starts."""
    for flow in (authentication_setup, workflow_configuration, gate_flow):
        flow_id = await running.client.create_flow_from_name(flow.name)
        await running.client.create_deployment(flow_id, flow.name)
    return running


async def started(running: Running, key: str) -> FlowRun:
    """The run that was started with `key`."""
    [run] = await running.client.read_flow_runs(
        flow_run_filter=FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[key]))
    )
    return run


async def delivered(rt: Runtime, settings: Settings) -> None:
    """The consumer looks at everything once, and hands over what there is for Prefect."""
    await watch(rt.store, now=utcnow())
    async with PrefectOrchestrator.open(settings) as orchestrator:
        while await deliver_runs(rt.store, orchestrator, "test"):
            pass


async def gate_of(rt: Runtime, name: str) -> Gate:
    [found] = await rows(rt, Gate, col(Gate.gate) == name)
    return found


async def begun(rt: Runtime, **more: Any) -> Implementation:
    """An implementation of one system."""
    form = Form(
        customer="Acme",
        systems=["SAP ECC"],
        complexity="standard",
        kickoff=utcnow().date(),
        owner="Petra",
        by="Petra",
        **{"hosting": "cloud", **more},
    )
    return (await start(rt.store, form, now=utcnow())).progress.standing.implementation


async def kicked_off(rt: Runtime, **more: Any) -> Implementation:
    """One whose technical requirements are confirmed."""
    implementation = await begun(rt, **more)
    kickoff = await gate_of(rt, "kickoff")
    await ask(rt.store, kickoff.id, run_id="kickoff")
    said = GateAnswer("done", evidence="list signed", by="Petra")
    await answer(rt.store, kickoff.id, said, number=0, run_id="kickoff", now=utcnow())
    return implementation


async def test_an_implementation_sets_up_its_login_and_configures_its_connection(
    rt: Runtime,
    box: sandbox.Served,
    deployed: Running,
    settings: Settings,
    clean_prefect: PrefectServer,
) -> None:
    implementation = await kicked_off(rt)
    with on(clean_prefect):
        await delivered(rt, settings)
        login = await gate_of(rt, "authentication-1")
        run = await started(deployed, f"work:{login.id}:1")
        run = await work(deployed, authentication_setup, run.id)
        assert run.name.endswith("waits for the customer's login"), run.state
        assert (await gate_of(rt, "authentication-1")).work_run_id == str(run.id)
        [link] = await rows(rt, ConnectLink)
        assert await log_in(rt, box, link, "new:sap-ecc") == "done"
        await watch(rt.store, now=utcnow())
        assert (await gate_of(rt, "authentication-1")).status == "open", "nothing was read yet"
        assert await watch_setups(rt, now=utcnow()) == 1
        await delivered(rt, settings)
        run = await work(deployed, authentication_setup, run.id)
        assert run.state is not None
        assert run.state.name == "Completed", run.state
        async with rt.store.write() as session:
            [connection] = await session.scalars(
                select(Connection).where(col(Connection.provider) == "SAP ECC")
            )
            connection.sync_status, connection.last_good_at = "fulldone", utcnow()
        await delivered(rt, settings)
        login = await gate_of(rt, "authentication-1")
        assert login.status == "done"
        assert "read a record with the new token" in login.evidence

        step = await gate_of(rt, "workflow-configuration-1")
        run = await started(deployed, f"work:{step.id}:1")
        run = await work(deployed, workflow_configuration, run.id)
        assert run.name.endswith("waits for what to configure"), run.state
        assert not await rows_of_settings(rt)
        await deployed.client.resume_flow_run(
            run.id, run_input={"entities": ["nonsense"], "cadence": -5}
        )
        run = await work(deployed, workflow_configuration, run.id)
        assert run.state is not None
        assert run.state.is_paused(), run.state
        question = await deployed.client.request(
            "GET", f"/flow_runs/{run.id}/input/suspended-configure-1-description"
        )
        for fault in ("Entities: no entity", "Cadence in minutes: enter", "Your name: say who"):
            assert fault in question.text, question.text
        await deployed.client.resume_flow_run(
            run.id, run_input={"entities": ["assets"], "cadence": 30, "by": "Olaf"}
        )
        run = await work(deployed, workflow_configuration, run.id)
        assert run.name.endswith("waits for webhooks"), run.state
        await delivered(rt, settings)
    assert await rows_of_settings(rt) == {("eam/assets", 30)}
    step = await gate_of(rt, "workflow-configuration-1")
    assert (step.status, step.done_by) == ("done", "Olaf"), step
    assert "All listed whole" in step.evidence
    assert step.work_run_id == str(run.id)
    assert implementation.slug == "acme-sap-ecc"

    await deployed.client.delete_flow_run(run.id)
    with on(clean_prefect):
        for summary in ("1 lost run started again", "0 slipping"):  # once, however often it looks
            said = await advance_implementations(return_state=True)
            assert (said.message or "").endswith(summary), said.message
        await delivered(rt, settings)
        [second] = [
            found
            for found in await newest_runs(deployed.client)
            if (found.idempotency_key or "").startswith(f"after:{run.id}:")
        ]
        second = await work(deployed, workflow_configuration, second.id)
        assert second.name.endswith("waits for webhooks"), second.state
    assert await rows_of_settings(rt) == {("eam/assets", 30)}, "what was configured stays"
    step = await gate_of(rt, "workflow-configuration-1")
    assert step.work_run_id == str(second.id), "the graph of the implementation links to it"


@pytest.mark.repeats(
    "flows/test_authentication_setup.py::test_a_lost_set_up_that_no_gate_asks_for_goes_on_in_another_run"
)
async def test_a_lost_set_up_goes_on_in_the_run_that_is_started_again(
    rt: Runtime,
    box: sandbox.Served,
    deployed: Running,
    settings: Settings,
    clean_prefect: PrefectServer,
) -> None:
    await kicked_off(rt)
    with on(clean_prefect):
        await delivered(rt, settings)
        login = await gate_of(rt, "authentication-1")
        first = await started(deployed, f"work:{login.id}:1")
        first = await work(deployed, authentication_setup, first.id)
        await edges(deployed, first.id, 3)
        await deployed.client.delete_flow_run(first.id)
        [link] = await rows(rt, ConnectLink)

        assert await works.restart_lost(rt.store, set(), before=utcnow(), now=utcnow()) == 1
        await delivered(rt, settings)
        second = await started(deployed, f"work:{login.id}:2")
        second = await work(deployed, authentication_setup, second.id)
        assert second.name.endswith("waits for the customer's login"), second.state
        labels, _ = await edges(deployed, second.id, 3)
        assert labels == ["customer asked", "link made", "technical requirements"]
        [same] = await rows(rt, ConnectLink)
        assert (same.id, same.expires_at) == (link.id, link.expires_at), (
            "the mailed link still works"
        )
        [setup] = await rows(rt, AuthenticationSetup)
        assert setup.run_id == str(second.id)

        by_hand = await begin(
            deployed, authentication_setup, implementation="acme-sap-ecc", by="Olaf"
        )
        assert by_hand.name.endswith("waits for the customer's login"), by_hand.state
        assert (await gate_of(rt, "authentication-1")).work_run_id == str(by_hand.id)
        await delivered(rt, settings)
        second = await work(deployed, authentication_setup, second.id)
        assert second.state is not None
        assert second.state.name == "Replaced"


async def test_an_app_that_only_observes_refuses_once(
    rt: Runtime,
    deployed: Running,
    settings: Settings,
    clean_prefect: PrefectServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LINEKEEPER_MAKINI_MODE", "observe")
    await kicked_off(rt)
    with on(clean_prefect):
        await delivered(rt, settings)
        login = await gate_of(rt, "authentication-1")
        run = await started(deployed, f"work:{login.id}:1")
        run = await work(deployed, authentication_setup, run.id)
        assert run.state is not None
        assert run.state.name == "Refused", run.state
    assert (await gate_of(rt, "authentication-1")).is_work_over
    assert await works.restart_lost(rt.store, set(), before=utcnow(), now=utcnow()) == 0


async def rows_of_settings(rt: Runtime) -> set[tuple[str, int | None]]:
    async with rt.store.read() as session:
        found = await session.scalars(select(ConnectionSetting))
        return {(row.entity, row.cadence_minutes) for row in found}
