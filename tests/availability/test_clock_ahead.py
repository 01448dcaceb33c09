"""A clock that leapt a day ahead: it looks like a day without us, until it is set right."""

from datetime import timedelta

import pytest
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.consumer.alive import DEAD_AFTER, beat
from linekeeper.consumer.clock_ahead import put_right
from linekeeper.reconcile.outage import covered, note_outages, uncovered
from linekeeper.store import Store
from linekeeper.store.tables import Outage
from tests.availability.test_standstill import stored, swept
from tests.reconcile.test_clock_ahead import DAY, off

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
"""PostgreSQL's own clock counts for all machines."""
MINUTE = timedelta(minutes=1)


async def test_an_outage_that_only_the_clock_saw_does_not_reach_into_the_future(
    store: Store,
) -> None:
    """What went wrong within the next day would be ours, whoever's it is."""
    now = utcnow()
    with off(DAY):
        ahead = utcnow()
        await stored(store, ("a", now - 60 * MINUTE, now - MINUTE), ("b", ahead, ahead + MINUTE))
        await swept(store, ahead)
        [outage] = await note_outages(store, now=ahead + MINUTE)
        assert outage.length > DAY
        await covered(store, outage, connections=1, left=0, recovered=0, now=ahead + MINUTE)
        await beat(store, "one")
    assert await put_right(store, beat=DEAD_AFTER) is not None
    async with store.read() as session:
        [row] = await session.scalars(select(Outage).order_by(col(Outage.since)))
    assert row.since == outage.since
    soon = utcnow() + MINUTE
    assert row.since < row.until <= soon
    assert row.found_at <= soon
    assert row.covered_at is not None
    assert row.covered_at <= soon
    assert await note_outages(store, now=utcnow()) == []
    assert await uncovered(store) is None
