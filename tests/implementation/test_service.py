"""From the kickoff to the go-live, in the database."""

import asyncio
import re
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlmodel import col

from linekeeper.credits.queries import lock_ledger
from linekeeper.credits.service import consume_on_connect
from linekeeper.implementation.advance import advance_all, look, restart_lost
from linekeeper.implementation.answer import GateAnswer, answer, ask
from linekeeper.implementation.report import implementation_markdown
from linekeeper.notify.view import Links
from linekeeper.store.tables import (
    Audit,
    Connection,
    CreditEntry,
    Drift,
    Gate,
    Watermark,
)
from tests.implementation.conftest import Office
from tests.waiting import somebody_waits


async def before_live(office: Office, progress) -> str:
    """Everything a standard cloud implementation needs but the go-live, in order."""
    await office.says(progress, "kickoff")
    connection = await office.connects("Acme", "SAP ECC")
    await office.advance(progress)
    await office.says(progress, "workflow-configuration-1")
    await office.delivers(connection)
    await office.reconciles(connection)
    await office.advance(progress)
    await office.says(progress, "validation")
    return connection


async def to_live(office: Office, progress) -> None:
    await before_live(office, progress)
    await office.says(progress, "go-live")


async def test_standard_goes_live_by_evidence_and_forms(office: Office):
    started = await office.start(committed=office.now.date() + timedelta(days=11))
    await to_live(office, started.progress)
    end = await look(office.store, started.progress.standing.implementation.id, now=office.now)
    implementation = end.standing.implementation
    assert implementation.status == "live"
    assert set(end.evaluation.statuses.values()) == {"done"}
    assert implementation.actual["kept"] is True
    async with office.store.read() as session:
        [connection] = await session.scalars(select(Connection))
        assert connection.setup == "live"
        assert connection.next_probe_at == office.now
        rows = await session.execute(
            select(col(CreditEntry.reason), func.sum(CreditEntry.delta)).group_by(
                col(CreditEntry.reason)
            )
        )
        assert {row[0]: row[1] for row in rows} == {"reserve": -4, "release": 4, "consume": -4}
    said = [row.payload["text"] for row in await office.outbox("slack")]
    assert "is live, as promised" in said[-1]


async def test_moving_on_again_changes_nothing(office: Office):
    started = await office.start()
    await to_live(office, started.progress)
    before = [len(await office.outbox(c)) for c in ("run", "event", "slack")]
    again = await office.advance(started.progress)
    assert again.evaluation.changes == ()
    assert before == [len(await office.outbox(c)) for c in ("run", "event", "slack")]


async def test_a_form_sent_twice_counts_once(office: Office):
    started = await office.start()
    row = await office.gate(started.progress, "kickoff")
    await ask(office.store, row.id, run_id="run-1")
    given = GateAnswer("done", evidence="minutes", by="Petra")
    for _ in range(2):
        taken = await answer(office.store, row.id, given, number=0, run_id="run-1", now=office.now)
        assert taken.settled
    assert "done already" in taken.message
    async with office.store.read() as session:
        audits = await session.scalars(select(Audit).where(col(Audit.action) == "gate.done"))
        assert len(list(audits)) == 1


async def test_a_form_that_says_too_little_is_asked_again_with_the_reason(office: Office):
    started = await office.start()
    taken = await office.says(started.progress, "kickoff", evidence=" ")
    assert not taken.settled
    assert taken.message.startswith("Evidence, or the reason:")
    row = await office.gate(started.progress, "kickoff")
    assert (row.status, row.refusal, row.answers) == ("open", taken.message, 1)


async def test_time_blocked_by_the_customer_is_not_ours(office: Office):
    started = await office.start()
    office.later(hours=4)
    await office.says(started.progress, "kickoff", outcome="blocked", evidence="nobody came")
    office.later(days=1)
    taken = await office.says(started.progress, "kickoff", outcome="carry on")
    office.later(hours=2)
    assert (await office.says(started.progress, "kickoff")).settled
    assert taken.progress is not None
    assert taken.progress.evaluation.waited["customer"] == pytest.approx(1.0)
    row = await office.gate(started.progress, "kickoff")
    assert row.blocks[0]["because"] == "nobody came"
    assert row.blocks[0]["until"] is not None


async def test_a_lost_run_is_started_again_and_a_living_one_is_not(office: Office):
    started = await office.start()
    row = await office.gate(started.progress, "kickoff")
    office.later(weeks=6)
    # Not handed over to Prefect yet: not lost.
    assert await restart_lost(office.store, set(), before=office.now, now=office.now) == 0
    async with office.store.write() as session:
        for message in await office.outbox("run"):
            message.status, message.settled_at = "sent", office.now - timedelta(weeks=6)
            await session.merge(message)
    assert await restart_lost(office.store, {row.id}, before=office.now, now=office.now) == 0
    assert await restart_lost(office.store, set(), before=office.now, now=office.now) == 1
    assert await restart_lost(office.store, set(), before=office.now, now=office.now) == 0
    assert [run.dedupe_key for run in await office.gate_runs()] == [
        f"gate:{row.id}:1",
        f"gate:{row.id}:2",
    ]
    assert (await office.says(started.progress, "kickoff")).settled


async def test_the_answer_of_a_run_given_up_changes_nothing(office: Office):
    started = await office.start()
    row = await office.gate(started.progress, "kickoff")
    await ask(office.store, row.id, run_id="new")
    assert (await ask(office.store, row.id, run_id="old")).settled
    given = GateAnswer("done", evidence="x", by="Petra")
    taken = await answer(office.store, row.id, given, number=0, run_id="old", now=office.now)
    assert "Another run" in taken.message
    assert (await office.gate(started.progress, "kickoff")).status == "open"


async def test_gates_of_several_systems_wait_side_by_side(office: Office):
    started = await office.start(
        complexity="enterprise", systems=["SAP ECC", "UpKeep"], custom_workflows=1
    )
    for gate in ("kickoff", "security-review", "design"):
        await office.says(started.progress, gate)
    await office.connects("Acme", "UpKeep")
    await office.connects("Acme", "SAP ECC")
    after = await office.advance(started.progress)
    waiting = [g for g in after.evaluation.having("open") if g.startswith("workflow-conf")]
    assert waiting == ["workflow-configuration-1", "workflow-configuration-2"]
    names = {row.payload["name"] for row in await office.gate_runs()}
    assert "Acme · UpKeep · Basic workflow configuration" in names


async def test_drift_keeps_the_reconciliation_gate_open(office: Office):
    started = await office.start()
    await office.says(started.progress, "kickoff")
    connection = await office.connects("Acme", "SAP ECC")
    await office.advance(started.progress)
    await office.says(started.progress, "workflow-configuration-1")
    await office.delivers(connection)
    await office.reconciles(connection)
    async with office.store.write() as session:
        session.add(
            Drift(connection_id=connection, entity="eam/assets", run_at=office.now, missed=3)
        )
    after = await office.advance(started.progress)
    assert after.evaluation.statuses["reconciliation-1"] == "open"
    assert after.lacks["reconciliation-1"].text.startswith("The last reconciliation found 3")


async def test_only_a_comparison_after_the_gate_opened_proves_that_nothing_drifts(
    office: Office,
):
    started = await office.start()
    await office.says(started.progress, "kickoff")
    connection = await office.connects("Acme", "SAP ECC")
    await office.reconciles(connection)  # the webhooks are not even configured yet
    office.now += timedelta(hours=1)
    await office.advance(started.progress)
    await office.says(started.progress, "workflow-configuration-1")
    await office.delivers(connection)
    after = await office.advance(started.progress)
    assert after.evaluation.statuses["reconciliation-1"] == "open"
    assert "since this step opened" in after.lacks["reconciliation-1"].text
    async with office.store.write() as session:
        mark = await session.get_one(Watermark, (connection, "eam/assets"))
        run_at = office.now + timedelta(minutes=5)
        mark.run_at, mark.polled_at = run_at, run_at + timedelta(seconds=2)
        session.add(Drift(connection_id=connection, entity="eam/assets", run_at=run_at, missed=3))
    office.now += timedelta(minutes=10)
    after = await office.advance(started.progress)
    assert after.lacks["reconciliation-1"].text.startswith("The last reconciliation found 3")
    async with office.store.write() as session:
        mark = await session.get_one(Watermark, (connection, "eam/assets"))
        mark.run_at = mark.polled_at = office.now
    after = await office.advance(started.progress)
    assert after.evaluation.statuses["reconciliation-1"] == "done"


async def test_weeks_of_waiting_lose_nothing(office: Office):
    started = await office.start()
    row = await office.gate(started.progress, "kickoff")
    await ask(office.store, row.id, run_id="run-1")
    office.later(weeks=9)
    await advance_all(office.store, now=office.now)
    given = GateAnswer("done", evidence="minutes", by="Petra")
    taken = await answer(office.store, row.id, given, number=0, run_id="run-1", now=office.now)
    assert taken.settled
    async with office.store.read() as session:
        opened = await session.scalars(select(col(Gate.gate)).where(col(Gate.status) == "open"))
        assert set(opened) == {"authentication-1"}
    assert len(await office.gate_runs()) == 1


async def test_a_connection_found_by_the_nightly_check_at_that_moment_is_charged_once(
    office: Office,
):
    started = await office.start()
    [system] = started.progress.standing.systems
    found = await office.connects("Acme", "SAP ECC")
    async with office.store.write() as session:
        await lock_ledger(office.store, session)  # as the check begins
        await consume_on_connect(
            office.store,
            session,
            found,
            system.cost,
            app="default",
            by="credits",
            now=office.now,
        )
        advancing = asyncio.create_task(office.advance(started.progress))
        await somebody_waits(office.store)
    await advancing
    async with office.store.read() as session:
        rows = await session.scalars(
            select(col(CreditEntry.delta)).where(col(CreditEntry.subject) == found)
        )
        assert list(rows) == [-system.cost]


async def test_a_system_whose_connection_ended_is_the_one_that_takes_its_place(office: Office):
    started = await office.start()
    await office.says(started.progress, "kickoff")
    first = await office.connects("Acme", "SAP ECC")
    await office.advance(started.progress)
    async with office.store.write() as session:
        (await session.get_one(Connection, first)).setup = "disconnected"
    gone = await office.advance(started.progress)
    assert gone.lacks["workflow-configuration-1"].text.startswith("The connection was disconnected")
    second = await office.connects("Acme", "SAP ECC", makini_key="key-2", slug="acme-sap-ecc-2")
    round_ = await advance_all(office.store, now=office.now)
    assert round_.moved == [started.progress.standing.implementation.id]
    after = await office.advance(started.progress)
    assert [system.connection_id for system in after.standing.systems] == [second]
    assert "workflow-configuration-1" not in after.lacks
    assert (await advance_all(office.store, now=office.now)).moved == []


async def test_an_open_automatic_gate_has_the_form_that_brings_it_on(office: Office):
    forms = ("connect", "check-connection", "reconcile")
    links = Links(ui_url="../..", deployments={name: name for name in forms})

    async def offered() -> list[str]:
        progress = await office.advance(started.progress)
        shown = implementation_markdown(progress, office.now, links)
        return re.findall(r"deployment/([a-z-]+)/run", shown.partition("## Open now")[2])

    started = await office.start()
    assert await offered() == []
    await office.says(started.progress, "kickoff")
    assert await offered() == ["connect"]
    connection = await office.connects("Acme", "SAP ECC", health="unknown", sync_status=None)
    assert await offered() == ["check-connection"]
    async with office.store.write() as session:
        row = await session.get_one(Connection, connection)
        row.health, row.sync_status = "healthy", "done"
    await office.delivers(connection)
    await offered()
    await office.says(started.progress, "workflow-configuration-1")
    assert await offered() == ["reconcile"]
    await office.reconciles(connection)
    assert await offered() == []
