"""The run of a gate: started again where it is lost, ended where the gate is settled."""

import pytest
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled, Crashed
from sqlalchemy import update
from sqlmodel import col, select

from flows.advance_implementations import advance_implementations
from flows.gate import gate
from flows.implementation_abandon import implementation_abandon
from flows.implementation_change import implementation_change
from flows.implementation_skip import implementation_skip
from flows.preflight import preflight
from linekeeper.implementation.answer import ask
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.tables import (
    Gate,
)
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tests.delivering import deliver_runs
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.test_implementation_flows import begin_implementation, outcome, stored
from tests.newest_runs import newest_runs

pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]


AGAIN = pytest.mark.repeats(
    "flows/test_implementation_gate_runs.py"
    "::test_a_gates_run_that_is_cancelled_crashed_or_deleted_is_started_again"
)


@pytest.mark.parametrize(
    "lost_by",
    [("cancelled",), pytest.param(("crashed", "deleted"), marks=AGAIN)],
    ids=" ".join,
)
async def test_a_gates_run_that_is_cancelled_crashed_or_deleted_is_started_again(
    running: Running,
    store: Store,
    settings: Settings,
    clean_prefect: PrefectServer,
    lost_by: tuple[str, ...],
) -> None:
    own = settings.model_copy(update={"prefect_port": clean_prefect.port})
    flow_id = await running.client.create_flow_from_name("gate")
    await running.client.create_deployment(flow_id, "gate")
    with on(clean_prefect):
        await begin_implementation()
        async with PrefectOrchestrator.open(own) as orchestrator:
            for attempt, how in enumerate(lost_by, start=1):
                await deliver_runs(store, orchestrator, "test")
                assert outcome(await advance_implementations(return_state=True))[1].endswith(
                    "0 slipping"
                )
                run = await _run_of_the_gate(running, attempt)
                if how == "cancelled":
                    await _given_to_bob(running, store, run)
                if how == "deleted":
                    await running.client.delete_flow_run(run.id)
                else:
                    lost = Cancelled() if how == "cancelled" else Crashed()
                    await running.client.set_flow_run_state(run.id, lost, force=True)
                said = outcome(await advance_implementations(return_state=True))[1]
                assert "1 lost run started again" in said, (how, said)
                again = outcome(await advance_implementations(return_state=True))[1]
                assert "lost" not in again, (how, again)
    [row] = await stored(store, select(Gate).where(col(Gate.status) == "open"))
    assert row.attempt == 1 + len(lost_by)


async def _given_to_bob(running: Running, store: Store, run: FlowRun) -> None:
    [row] = await stored(store, select(Gate).where(col(Gate.status) == "open"))
    await ask(store, row.id, run_id=str(run.id))  # as the run does when it begins
    for to in ("Bob", "customer"):
        await implementation_change("Acme", by="Olaf", step="kickoff", waiting_on=to)
    tags = set((await running.client.read_flow_run(run.id)).tags)
    assert {"owner:bob", "waiting:customer", "implementation:acme-sap-ecc"} <= tags
    assert not tags & {"owner:petra", "waiting:us"}
    await _held_and_resumed(running, store, run)


async def _held_and_resumed(running: Running, store: Store, run: FlowRun) -> None:
    """On hold its run waits for nobody, nor does the one that does its work; then as before."""
    work = await running.client.create_flow_run(preflight, tags=["waiting:us"])
    async with store.write() as session:
        changed = update(Gate).where(col(Gate.status) == "open")
        await session.execute(changed.values(work_run_id=str(work.id)))
    for on_hold, waiting in (("put on hold", set()), ("carry on", {"waiting:customer"})):
        await implementation_change("Acme", by="Olaf", on_hold=on_hold, reason="no budget")
        for run_id in (run.id, work.id):
            tags = (await running.client.read_flow_run(run_id)).tags
            assert {tag for tag in tags if tag.startswith("waiting:")} == waiting, on_hold
    async with store.write() as session:
        await session.execute(changed.values(work_run_id=None))


async def _run_of_the_gate(running: Running, attempt: int) -> FlowRun:
    runs = [run for run in await newest_runs(running.client) if "gate" in run.parameters]
    unfinished = [run for run in runs if run.state and run.state.type == StateType.SCHEDULED]
    assert len(unfinished) == 1, attempt
    assert unfinished[0].name == "Acme · Kickoff and technical requirements"
    return unfinished[0]


async def test_a_run_for_a_gate_that_is_settled_or_unknown_ends_at_once(
    running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    with on(clean_prefect):
        for nonsense in (new_id(), "'; drop table gate; --", ""):
            name, message = outcome(await gate(nonsense, return_state=True))
            assert (name, "there is no gate" in message) == ("Refused", True)
        await begin_implementation()
        await implementation_skip("Acme", step="kickoff", by="Olaf", reason="known")
        [row] = await stored(store, select(Gate).where(col(Gate.gate) == "kickoff"))
        assert outcome(await gate(row.id, return_state=True)) == (
            "Skipped",
            "Kickoff and technical requirements was skipped: known",
        )
        await begin_implementation(systems=["Maximo"])
        await implementation_abandon("Acme · Maximo", by="Olaf", reason="they cancelled")
        [given_up] = await stored(
            store, select(Gate).where(col(Gate.gate) == "kickoff", col(Gate.id) != row.id)
        )
        name, message = outcome(await gate(given_up.id, return_state=True))
        run = await running.last()
    assert (name, message) == (
        "Skipped",
        "Kickoff and technical requirements is not asked for any more: the implementation was "
        "abandoned",
    )
    assert run.name == "Acme · Kickoff and technical requirements · abandoned"
