"""A clock that was a day ahead: what was over by it holds nothing back until its time has come."""

import asyncio
from datetime import timedelta

import pytest
from sqlmodel import col, select

from linekeeper.budget import DatabaseBudget
from linekeeper.clock import utcnow
from linekeeper.consumer.alive import DEAD_AFTER, beat
from linekeeper.consumer.clock_ahead import put_right
from linekeeper.incidents.findings import Finding, apply_findings
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Incident
from tests.reconcile.test_clock_ahead import DAY, off
from tests.watch.test_one_cause import notified
from tests.watch.test_standby import runtime, slack

__all__ = ["runtime", "slack"]  # fixtures
pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
"""PostgreSQL's own clock counts for all machines."""
MISSING = Finding(
    kind="pool_without_worker", cause="parts:pool", app="", title="None", text="None.",
    scope="house", detail={"missing": "worker"},
)  # fmt: skip
OVERDUE = Finding(
    kind="work_overdue", cause="parts:work:sweep", app="", title="No sweep", text="None.",
    scope="house",
)  # fmt: skip


async def found(rt: Runtime, *findings: Finding) -> None:
    async with rt.store.write() as session:
        await apply_findings(rt.store, session, "parts", findings, now=utcnow())


async def test_an_overdue_sweep_is_said_though_a_missing_worker_was_back_tomorrow(
    runtime: Runtime,
) -> None:
    """What follows from a missing part is held back until a while after that is over."""
    with off(DAY):
        await found(runtime, MISSING)
        await found(runtime)
        await beat(runtime.store, "one")
    assert await put_right(runtime.store, beat=DEAD_AFTER) is not None
    async with runtime.store.read() as session:
        [incident] = await session.scalars(select(Incident).order_by(col(Incident.id)))
    assert incident.resolved_at is not None
    assert incident.resolved_at <= utcnow()
    with off(timedelta(hours=1)):
        await found(runtime, OVERDUE)
        assert "work_overdue" in await notified(runtime)


async def test_a_pause_that_makini_asked_for_is_over_though_nothing_else_was_written_by_that_clock(
    runtime: Runtime,
) -> None:
    """Universe 70145: it began anew with each look, for a day, and held up a sweep besides."""
    with off(DAY):
        until = utcnow() + timedelta(seconds=0.2)
        await DatabaseBudget(runtime.store).penalise("default", until, connection="k")
    assert await put_right(runtime.store, beat=DEAD_AFTER) is not None
    taken = DatabaseBudget(runtime.store).take("default", 600, connection="k")
    await asyncio.wait_for(taken, timeout=20)
