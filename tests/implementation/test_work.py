"""The runs that do the work of gates: started once, replaced by hand, started again when lost."""

from datetime import timedelta

import pytest
from sqlmodel import col, select

from linekeeper.implementation import work
from linekeeper.implementation.advance import advance
from linekeeper.store import new_id
from linekeeper.store.tables import (
    AuthenticationSetup,
    ImplementationSystem,
    Outbox,
    WorkflowConfiguration,
)
from tests.implementation.conftest import Office


async def opened(office: Office):
    """An implementation whose gate `authentication-1` is open; its progress and the gate."""
    started = await office.start()
    await office.says(started.progress, "kickoff")
    return started.progress, await office.gate(started.progress, "authentication-1")


async def system_of(office: Office) -> ImplementationSystem:
    async with office.store.read() as session:
        return (await session.scalars(select(ImplementationSystem))).one()


async def handed_over(office: Office) -> None:
    """Prefect took every run there was to start, an hour ago."""
    async with office.store.write() as session:
        for row in await session.scalars(select(Outbox).where(col(Outbox.channel) == "run")):
            row.status, row.settled_at = "sent", office.now - timedelta(hours=1)


async def test_an_open_gate_starts_its_work_once(office: Office):
    progress, gate = await opened(office)
    for _ in range(3):
        await office.advance(progress)
    [run] = await office.work_runs()
    assert run.payload["deployment"] == "authentication-setup"
    assert run.payload["idempotency_key"] == run.dedupe_key == f"work:{gate.id}:1"
    assert run.payload["parameters"] == {
        "implementation": "acme-sap-ecc",
        "system": "SAP ECC",
        "by": "Linekeeper",
    }
    assert "implementation:acme-sap-ecc" in run.payload["tags"]


async def test_the_work_of_a_connected_system_starts_with_its_gate(office: Office):
    progress, _ = await opened(office)
    connection = await office.connects("Acme", "SAP ECC")
    await office.advance(progress)
    [_, run] = await office.work_runs()
    assert run.payload["deployment"] == "workflow-configuration"
    assert run.payload["parameters"] == {"connection": connection, "by": "Linekeeper"}


async def test_one_run_takes_the_work_and_the_next_finds_it_taken(office: Office):
    _, gate = await opened(office)
    key = f"work:{gate.id}:1"
    assert await work.claim(office.store, key, "run-1", now=office.now) == "ours"
    assert await work.claim(office.store, key, "run-1", now=office.now) == "ours"
    assert await work.claim(office.store, key, "run-2", now=office.now) == "taken"
    for nonsense in ("work::", f"work:{gate.id}", f"work:{new_id()}:1"):
        assert await work.claim(office.store, nonsense, "run-3", now=office.now) != "ours"


async def test_a_run_that_somebody_started_is_the_gates_and_no_other_is_started(office: Office):
    started = await office.start()
    system = await system_of(office)
    async with office.store.write() as session:
        await work.take_by_hand(
            office.store,
            session,
            "authentication-setup",
            "by-hand",
            system_id=system.id,
            now=office.now,
        )
    await office.says(started.progress, "kickoff")
    assert not await office.work_runs()
    gate = await office.gate(started.progress, "authentication-1")
    assert gate.work_run_id == "by-hand"


async def test_a_run_by_hand_ends_the_one_that_was_started(office: Office):
    progress, gate = await opened(office)
    await work.claim(office.store, f"work:{gate.id}:1", "run-1", now=office.now)
    system = await system_of(office)
    async with office.store.write() as session:
        await work.take_by_hand(
            office.store,
            session,
            "authentication-setup",
            "by-hand",
            system_id=system.id,
            now=office.now,
        )
    ends = [row for row in await office.gate_runs() if row.payload.get("resume") == "run-1"]
    assert len(ends) == 1
    assert (await office.gate(progress, "authentication-1")).work_run_id == "by-hand"


async def test_a_lost_run_is_started_again_and_no_other(office: Office):
    progress, gate = await opened(office)

    async def restarted(*alive: str) -> int:
        return await work.restart_lost(office.store, alive, before=office.now, now=office.now)

    assert await restarted() == 0  # not handed over yet
    await handed_over(office)
    assert await restarted(f"work:{gate.id}:1") == 0  # it waits for a worker
    await work.claim(office.store, f"work:{gate.id}:1", "run-1", now=office.now)
    assert await restarted() == 0  # it began after the runs were listed
    office.later(hours=1)
    assert await restarted("run-1") == 0
    assert await restarted() == 1
    assert await restarted() == 0
    assert [row.dedupe_key for row in await office.work_runs()] == [
        f"work:{gate.id}:1",
        f"work:{gate.id}:2",
    ]
    assert await work.claim(office.store, f"work:{gate.id}:1", "run-1", now=office.now) == "taken"
    assert await work.claim(office.store, f"work:{gate.id}:2", "run-2", now=office.now) == "ours"
    await work.note_ended(office.store, "run-2")  # somebody gave it up
    await handed_over(office)
    office.later(hours=1)
    assert await restarted() == 0
    assert (await office.gate(progress, "authentication-1")).is_work_over


@pytest.mark.parametrize("action", ["skip", "abandon"])
async def test_a_gate_that_needs_no_work_any_more_ends_its_run(office: Office, action: str):
    progress, gate = await opened(office)
    await work.claim(office.store, f"work:{gate.id}:1", "run-1", now=office.now)
    wanted = {"gate": gate.gate} if action == "skip" else {}
    await office.update(progress, action, reason="they do it themselves", **wanted)
    assert [row for row in await office.gate_runs() if row.payload.get("resume") == "run-1"]
    async with office.store.read() as session:
        assert await work.is_over(session, "run-1")
    assert not await work.is_open(office.store, "run-1")


async def test_a_login_that_is_set_up_is_proven_by_its_read_and_by_nothing_before(office: Office):
    progress, _ = await opened(office)
    system = await system_of(office)
    async with office.store.write() as session:
        session.add(
            AuthenticationSetup(
                run_id="run-1",
                system_id=system.id,
                started_at=office.now,
                started_by="Olaf",
                logins_from=office.now,
            )
        )
    await office.connects("Acme", "SAP ECC")
    moved = await office.advance(progress)
    assert moved.evaluation.statuses["authentication-1"] == "open"
    assert "no record was read" in moved.lacks["authentication-1"].text
    async with office.store.write() as session:
        row = (await session.scalars(select(AuthenticationSetup))).one()
        row.verified_at = row.ended_at = office.now
    await office.advance(progress)
    gate = await office.gate(progress, "authentication-1")
    assert gate.status == "done"
    assert "read a record with the new token" in gate.evidence


async def test_what_was_configured_is_the_evidence_of_its_gate(office: Office):
    progress, _ = await opened(office)
    connection = await office.connects("Acme", "SAP ECC")
    await office.advance(progress)
    await office.says(progress, "workflow-configuration-1", outcome="blocked", evidence="holidays")
    async with office.store.write() as session:
        session.add(
            WorkflowConfiguration(
                connection_id=connection,
                configured_at=office.now,
                configured_by="Olaf",
                read_at=office.now,
                evidence="eam/assets; read by its webhooks. All listed whole: 20 records.",
            )
        )
    await advance(office.store, progress.standing.implementation.id, now=office.now)
    gate = await office.gate(progress, "workflow-configuration-1")
    assert (gate.status, gate.done_by) == ("done", "Olaf")
    assert "20 records" in gate.evidence
    ends = [row for row in await office.gate_runs() if row.payload.get("resume") == gate.run_id]
    assert ends, "the form that asks for it ends, too"
