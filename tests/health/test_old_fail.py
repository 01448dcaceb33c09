"""A status `fail` soon after a good read: an old word, perhaps, which one more read settles."""

from dataclasses import replace
from datetime import timedelta

import sandbox
from linekeeper.clock import utcnow
from linekeeper.health.contested import wants_read
from linekeeper.health.judge import Outcome
from linekeeper.health.scope import count_reads
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Watermark
from tests.health.test_contradictions import first, reads
from tests.health.test_judge import POLICY, T0, after, seen
from tests.health.test_sweep import control, incidents, sweep


async def polled(rt: Runtime, connection: Connection) -> None:
    """A poll has read the connection just now."""
    now = utcnow()
    async with rt.store.write() as session:
        session.add(Watermark(connection_id=connection.id, entity="eam/assets", polled_at=now))
    await count_reads(rt.store, now, now=now)


async def late_word(rt: Runtime, fleet: sandbox.Served) -> Connection:
    """A login was lost and works again, and Makini's status is at the loss only now."""
    connection = await first(rt)
    at_it = f"connections/{connection.makini_key}"
    await control(fleet, f"{at_it}/change-credentials")
    await control(fleet, f"{at_it}/lag-status")
    await control(fleet, f"{at_it}/restore-credentials")
    return connection


async def test_a_late_fail_does_not_undo_a_login_that_was_read_with(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """Universe 191: nobody is asked to log in whose login worked some minutes before, and does."""
    await sweep(rt)
    connection = await late_word(rt, fleet)
    await polled(rt, connection)
    before = reads(fleet)
    for _ in range(2):
        await sweep(rt)
        found = await first(rt)
        assert (found.health, found.evidence) == ("healthy", "read")
    assert reads(fleet) == before + 2
    assert await incidents(rt) == []


async def test_a_fail_after_a_good_read_is_believed_once_a_read_is_refused(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await sweep(rt)
    connection = await first(rt)
    await polled(rt, connection)
    await control(fleet, f"connections/{connection.makini_key}/change-credentials")
    await sweep(rt)
    assert (await first(rt)).health == "reauthorization_required"
    [incident] = await incidents(rt)
    assert (incident.kind, incident.status) == ("reauthorization_required", "open")


def test_a_fail_after_a_good_read_is_believed_where_nothing_is_read() -> None:
    judged = after(seen(Outcome.answered, 0, sync_status="done", read_at=T0))
    fail = seen(Outcome.login_lost, 5, sync_status="fail")
    assert wants_read(judged, fail, POLICY)
    assert after(fail, start=judged).health == "reauthorization_required"


def test_a_fail_that_lasts_is_believed_however_well_reads_go() -> None:
    """Makini may answer reads from what it has cached."""
    judged = after(seen(Outcome.answered, 0, sync_status="done", read_at=T0))
    minute = 5
    fail = seen(Outcome.login_lost, minute, sync_status="fail")
    while wants_read(judged, fail, POLICY):
        judged = after(replace(fail, source="read", outcome=Outcome.answered), start=judged)
        minute += 5
        fail = seen(Outcome.login_lost, minute, sync_status="fail")
    assert minute == 65
    assert judged.failing_since == T0 + timedelta(minutes=5)
    assert after(fail, start=judged).health == "reauthorization_required"
    well = seen(Outcome.answered, 70, sync_status="done")
    assert after(well, start=judged).failing_since is None
