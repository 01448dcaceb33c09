"""A status `fail` from before a record was read: a read settles it, as long as it is no older word
that lasts."""

from datetime import timedelta

import pytest

import sandbox
from linekeeper.clock import utcnow
from linekeeper.config import HealthPolicy
from linekeeper.health.evidence import Health, Judged, Observation, Outcome, load
from linekeeper.health.judge import judge
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection
from tests.health.test_contradictions import first, lose, reads
from tests.health.test_sweep import control, incidents, sweep


async def _lost_and_found_unseen(rt: Runtime, fleet: sandbox.Served) -> Connection:
    """The login was lost and an old password worked again; Makini's word of it comes late."""
    await sweep(rt)
    connection = await first(rt)
    await control(fleet, f"connections/{connection.makini_key}/change-credentials")
    await control(fleet, f"connections/{connection.makini_key}/lag-status")
    await control(fleet, f"connections/{connection.makini_key}/restore-credentials")
    async with rt.store.write() as session:  # a record was read since
        row = await session.get_one(Connection, connection.id)
        row.judged = {**row.judged, "read_at": utcnow().isoformat()}
    return connection


async def test_nobody_is_asked_to_log_in_for_what_a_read_contradicts(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await _lost_and_found_unseen(rt, fleet)
    for _ in range(2):
        before = reads(fleet)
        await sweep(rt)
        assert (await first(rt)).health == "healthy"
        assert (await first(rt)).suspect
        assert reads(fleet) > before
    assert await incidents(rt) == []


async def test_a_word_that_lasts_is_believed(rt: Runtime, fleet: sandbox.Served) -> None:
    """Reads may be answered from what Makini had cached."""
    await _lost_and_found_unseen(rt, fleet)
    await sweep(rt)
    async with rt.store.write() as session:
        row = await session.get_one(Connection, (await first(rt)).id)
        since = load(row.judged).failing_since
        assert since is not None
        row.judged = {**row.judged, "failing_since": (since - timedelta(hours=1)).isoformat()}
    await sweep(rt)
    assert (await first(rt)).health == "reauthorization_required"


async def test_a_lost_login_is_noticed_at_once(rt: Runtime, fleet: sandbox.Served) -> None:
    """The read is refused as well."""
    await _lost_and_found_unseen(rt, fleet)
    await lose(rt, fleet, lagging=False)
    await sweep(rt)
    assert (await first(rt)).health == "reauthorization_required"
    [incident] = await incidents(rt)
    assert incident.kind == "reauthorization_required"


@pytest.mark.parametrize("unread", [False, True])
def test_only_where_it_can_be_read(unread: bool) -> None:
    now = utcnow()
    held = Judged(health=Health.healthy, own=Health.healthy, read_at=now)
    seen = Observation(
        at=now + timedelta(minutes=1),
        source="probe",
        outcome=Outcome.login_lost,
        sync_status="fail",
        sync_updated_at=now - timedelta(minutes=1),
        unread=unread,
    )
    judged = judge(held, seen, HealthPolicy()).judged
    assert (judged.health is Health.reauthorization_required) is unread
    assert (judged.failing_since is None) is unread


def test_a_later_synchronization_that_fails_is_believed() -> None:
    now = utcnow()
    held = Judged(
        health=Health.healthy, own=Health.healthy, read_at=now, failing_since=now - _MINUTES
    )
    seen = Observation(
        at=now + _MINUTES,
        source="probe",
        outcome=Outcome.login_lost,
        sync_status="fail",
        sync_updated_at=now - timedelta(seconds=1),
    )
    assert judge(held, seen, HealthPolicy()).judged.health is Health.reauthorization_required


_MINUTES = timedelta(minutes=5)
