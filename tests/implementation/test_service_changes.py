"""What operators change about an implementation under way: hold, skip, move, abandon."""

from datetime import date

import pytest
from sqlalchemy import func, select, update
from sqlmodel import col

from linekeeper.implementation.advance import advance_all
from linekeeper.implementation.answer import ask
from linekeeper.implementation.report import implementation_markdown
from linekeeper.implementation.scope import PlanError
from linekeeper.notify.view import Links
from linekeeper.store.tables import (
    CreditEntry,
    Gate,
)
from tests.implementation.conftest import Office


async def test_on_hold_nothing_opens_and_resuming_carries_on(office: Office):
    started = await office.start()
    held = await office.update(started.progress, "hold", reason="budget freeze")
    assert held.progress.standing.held
    await office.says(started.progress, "kickoff")
    assert (await office.gate(started.progress, "credits")).status == "pending"
    resumed = await office.update(started.progress, "resume")
    assert resumed.progress.evaluation.statuses["credits"] == "done"


async def test_skipping_needs_a_reason_ends_the_run_and_opens_what_follows(office: Office):
    started = await office.start()
    row = await office.gate(started.progress, "kickoff")
    await ask(office.store, row.id, run_id="run-9")
    with pytest.raises(PlanError, match="reason"):
        await office.update(started.progress, "skip", gate="kickoff")
    done = await office.update(started.progress, "skip", gate="Kickoff", reason="known customer")
    assert done.progress.evaluation.statuses["kickoff"] == "skipped"
    assert done.progress.evaluation.statuses["authentication-1"] == "open"
    assert (await office.gate_runs())[-1].payload["resume"] == "run-9"


async def test_the_go_live_is_not_skipped_while_anything_else_is_open(office: Office):
    started = await office.start()
    with pytest.raises(PlanError, match=r"done or skipped: .*Kickoff"):
        await office.update(started.progress, "skip", gate="go-live", reason="we are in a hurry")
    row = await office.gate(started.progress, "go-live")
    assert (row.status, started.progress.standing.implementation.status) == ("pending", "running")
    async with office.store.write() as session:  # as before, when it was taken
        await session.execute(
            update(Gate).where(col(Gate.id) == row.id).values(status="skipped", skipped_because="x")
        )
    after = await office.update(started.progress, "hold", reason="budget freeze")
    assert after.progress.standing.implementation.status == "held"


async def test_dates_move_and_work_is_given_to_others(office: Office):
    started = await office.start()
    moved = await office.update(started.progress, "move", day=date(2027, 3, 2))
    assert moved.progress.outlook.commitment == "late"
    with pytest.raises(PlanError, match="before the kickoff"):
        await office.update(started.progress, "move", day=date(2027, 1, 2))
    later = date(2027, 3, 15)
    moved = await office.update(
        started.progress, "move", which_date="earliest", gate="go-live", day=later
    )
    assert moved.progress.outlook.p50 >= later
    await office.update(started.progress, "reassign", to="Quentin")
    await office.update(started.progress, "reassign", gate="validation", to="us")
    row = await office.gate(started.progress, "validation")
    assert (row.assignee, row.owner) == ("Quentin", "us")


async def test_an_abandoned_implementation_gives_its_credits_back(office: Office):
    started = await office.start()
    done = await office.update(started.progress, "abandon", reason="they left")
    page = implementation_markdown(done.progress, office.now, Links())
    assert "**abandoned**: they left" in page
    assert "not reached" in page
    assert "▶" not in page  # nothing is under way any more
    assert "Credits that were still reserved came back." in page
    assert not any(word in page for word in ("Forecast", "On track", "Open now", "likely", "late"))
    async with office.store.read() as session:
        assert await session.scalar(select(func.sum(CreditEntry.delta))) == 0
    assert (await office.start()).new


async def test_a_slip_is_told_once_in_working_hours_and_stands_in_the_digest(office: Office):
    """B1: a slip is announced before the date."""
    started = await office.start(committed=date(2027, 3, 9))
    office.later(days=5, hours=12)  # a Saturday night, the kickoff still open
    for _ in range(2):
        done = await advance_all(office.store, now=office.now)
        assert done.moved == []
        [line] = done.slipping
        assert "overdue: Kickoff and technical requirements (our turn)" in line
        assert "is late" in line
        office.later(minutes=5)
    slips = [row for row in await office.outbox("slack") if "slip" in row.dedupe_key]
    assert len(slips) == 1
    assert slips[0].next_attempt_at.isoformat() == "2027-03-08T09:00:00+00:00"
    assert started.new
