"""A clock that was a day ahead and is set right: what began by it is not of tomorrow."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from linekeeper.clock import utcnow
from linekeeper.consumer.alive import DEAD_AFTER, beat
from linekeeper.consumer.clock_ahead import put_right
from linekeeper.implementation import run
from linekeeper.implementation.advance import look, restart_lost
from linekeeper.store.tables import Connection, Customer, Outbox
from tests.implementation.conftest import Office
from tests.reconcile.test_clock_ahead import DAY, off

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
"""PostgreSQL's own clock counts for all machines."""


async def test_its_lost_runs_are_started_again_today_and_its_steps_are_open_since_today(
    office: Office,
) -> None:
    with off(DAY):
        async with office.store.write() as session:
            session.add(Customer(name="Beta", slug="beta"))
        office.now = utcnow()
        used_before = await office.connects("Beta", "Maximo")
        office.later(minutes=1)
        implementation = (await office.start()).progress.standing.implementation
        assert await run.take_up(
            office.store, implementation.id, "run-1", instead_of=None, now=office.now
        )
        async with office.store.write() as session:
            await session.execute(update(Outbox).values(status="sent", settled_at=office.now))
        await beat(office.store, "one")
    assert await put_right(office.store, beat=DEAD_AFTER) is not None
    now = utcnow() + timedelta(minutes=2)
    progress = await look(office.store, implementation.id, now=now)
    async with office.store.read() as session:
        connection = await session.get_one(Connection, used_before)
    assert connection.created_at <= progress.standing.implementation.started_at < now
    opened = [row.opened_at for row in progress.standing.gates.values() if row.opened_at]
    assert opened
    assert max(opened) < now
    assert await restart_lost(office.store, set(), before=now, now=now) == 1  # of the step
    assert await run.restart_lost(office.store, set(), before=now, now=now) == 1
