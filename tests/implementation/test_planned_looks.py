"""Looks that an implementation's run plans for later: one at a time waits, the last."""

from collections import Counter
from datetime import timedelta

from linekeeper.implementation.run import look_again, take_up
from linekeeper.store.tables import Outbox
from tests.implementation.conftest import Office


async def planned(office: Office) -> list[Outbox]:
    return [row for row in await office.outbox("run") if ":at:" in row.dedupe_key]


async def test_each_plan_takes_the_place_of_the_one_before(office: Office) -> None:
    acme = (await office.start()).progress
    beta = (await office.start(customer="Beta")).progress
    for number, progress in enumerate((acme, beta)):
        standing = progress.standing
        run = f"run-{number}"
        assert await take_up(
            office.store, standing.implementation.id, run, instead_of=None, now=office.now
        )
        standing.implementation.run_id = run
    later = office.now + timedelta(hours=2)
    await look_again(office.store, beta.standing, at=later, now=office.now)
    # The moment of the first is planned once more in the end, after another took its place.
    for hours in (2, 1, 3, 2):
        office.later(seconds=20)
        at = later + timedelta(hours=hours)
        await look_again(office.store, acme.standing, at=at, now=office.now)
    rows = await planned(office)
    waiting = {row.payload["wake"]: row.next_attempt_at for row in rows if row.status == "pending"}
    assert waiting == {"run-0": later + timedelta(hours=2), "run-1": later}
    assert Counter(row.status for row in rows) == {"pending": 2, "superseded": 3}


async def test_a_run_that_plans_none_leaves_none(office: Office) -> None:
    standing = (await office.start()).progress.standing
    assert await take_up(
        office.store, standing.implementation.id, "run", instead_of=None, now=office.now
    )
    standing.implementation.run_id = "run"
    at = office.now + timedelta(hours=1)
    await look_again(office.store, standing, at=at, now=office.now)
    await look_again(office.store, standing, at=None, now=office.now)
    assert [row.status for row in await planned(office)] == ["superseded"]
    # Only what was planned: another waking of it is not touched.
    wakes = [row for row in await office.outbox("run") if ":wake:" in row.dedupe_key]
    assert {row.status for row in wakes if ":at:" not in row.dedupe_key} <= {"pending", "sent"}
