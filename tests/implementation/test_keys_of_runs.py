"""What a run was started for is looked up by its idempotency key; the key is not taken apart."""

from datetime import timedelta

from sqlalchemy import update

from linekeeper.clock import utcnow
from linekeeper.housekeeping import prune
from linekeeper.implementation import successor, work
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Outbox
from tests.implementation.conftest import Office
from tests.implementation.test_work import opened


async def test_a_run_is_of_the_gate_and_attempt_it_was_started_for(office: Office) -> None:
    progress, gate = await opened(office)
    await office.advance(progress)
    [run] = await office.work_runs()
    key = run.dedupe_key
    assert await work.gate_of_key(office.store, key) == (gate.id, 1)
    for other in (None, "", f"work:{new_id()}:1", f"work:{gate.id}:2", f"work:{gate.id}:01"):
        assert await work.gate_of_key(office.store, other) is None


async def test_a_run_that_begins_weeks_after_it_was_asked_for_knows_whom_it_follows(
    store: Store,
) -> None:
    now, lost = utcnow(), new_id()
    rows = [
        Message("run", "any key", kind="follow_up", subject=lost),
        Message("run", f"after:{lost}:other", kind="wake", subject=lost),
        Message("run", "sent"),
    ]
    async with store.write() as session:
        await enqueue(store, session, rows, now=now)
    async with store.write() as session:
        await session.execute(update(Outbox).values(status="sent", settled_at=now))
    later = now + timedelta(days=60)
    assert await successor.lost_run(store, f"after:{lost}:other") is None
    pruned = await prune(store, outbox_before=later, observations_before=now, traces_before=now)
    assert pruned.outbox == 2
    assert await successor.lost_run(store, "any key") == lost
    assert await successor.lost_run(store, None) is None
    assert await successor.lost_run(store, "sent") is None
    # Of before: the version before keeps no such row for so long.
    assert await successor.lost_run(store, f"after:{lost}:2026120109") == lost
