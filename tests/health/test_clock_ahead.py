"""A machine's clock that was a day ahead and is set right: what was judged by it is judged anew."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import HealthPolicy
from linekeeper.consumer.alive import DEAD_AFTER
from linekeeper.consumer.clock_ahead import put_right
from linekeeper.health.evidence import Observation, Outcome, load
from linekeeper.health.judge import without_future
from linekeeper.health.login_check import is_check_due
from linekeeper.health.service import observe
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection
from linekeeper.sweep.sweep import take_list
from tests.health.test_sweep import connections, sweep
from tests.reconcile.test_clock_ahead import DAY, off

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
"""PostgreSQL's own clock counts for all machines."""


async def see(
    rt: Runtime, identifier: str, source: str, outcome: Outcome, *, at: datetime | None = None
) -> None:
    now = utcnow()
    async with rt.store.write() as session:
        seen = [(identifier, Observation(at=at or now, source=source, outcome=outcome))]
        await observe(rt.store, session, seen, policy=HealthPolicy(), now=now)


async def test_connections_are_probed_although_only_a_list_was_read_by_the_wrong_clock(
    rt: Runtime,
) -> None:
    with off(DAY):
        await take_list(rt, await rt.app("default"), now=utcnow())
    assert await put_right(rt.store, beat=DEAD_AFTER) is not None
    await sweep(rt)
    for connection in await connections(rt):
        assert connection.last_answered_at is not None
        assert connection.last_answered_at <= utcnow()
        assert connection.next_probe_at is not None
        assert connection.next_probe_at < utcnow() + timedelta(hours=1)
    assert await put_right(rt.store, beat=DEAD_AFTER) is None


async def test_a_connection_whose_answer_decided_nothing_is_probed_although_it_was_asked_tomorrow(
    rt: Runtime,
) -> None:
    """Universe 31866: no sweep had asked it until the next day."""
    await sweep(rt)
    connection = (await connections(rt))[0]
    with off(DAY):
        await take_list(rt, await rt.app("default"), now=utcnow())
        await see(rt, connection.id, "probe", Outcome.doubted)
    assert await put_right(rt.store, beat=DEAD_AFTER) is not None
    [found] = [each for each in await connections(rt) if each.id == connection.id]
    assert found.next_probe_at is not None
    assert found.next_probe_at <= utcnow()


async def test_a_connection_is_probed_although_what_was_asked_tomorrow_is_written_late(
    rt: Runtime,
) -> None:
    """Universe 35137: all had been put right before, and no sweep asked it until the next day."""
    await sweep(rt)
    connection = (await connections(rt))[0]
    asked = utcnow() + DAY
    async with rt.store.write() as session:
        late = {"last_checked_at": asked, "next_probe_at": utcnow(), "suspect": True}
        await session.execute(
            update(Connection).where(col(Connection.id) == connection.id).values(late)
        )
    await sweep(rt)
    [found] = [each for each in await connections(rt) if each.id == connection.id]
    assert found.last_checked_at is not None
    assert found.last_checked_at <= utcnow()


async def test_a_connection_was_heard_of_no_later_than_now(rt: Runtime) -> None:
    """Else one that is gone at Makini counts as heard of since, until tomorrow."""
    await sweep(rt)
    connection = (await connections(rt))[0]
    with off(DAY):
        await take_list(rt, await rt.app("default"), now=utcnow())
        await see(rt, connection.id, "read", Outcome.answered)
    await put_right(rt.store, beat=DEAD_AFTER)
    [found] = [each for each in await connections(rt) if each.id == connection.id]
    assert found.last_answered_at is not None
    assert found.last_answered_at <= utcnow()


async def test_a_login_that_nobody_uses_is_tested_in_time_although_it_was_read_tomorrow(
    rt: Runtime,
) -> None:
    await sweep(rt)
    connection = (await connections(rt))[0]
    with off(DAY):
        await take_list(rt, await rt.app("default"), now=utcnow())
        await see(rt, connection.id, "read", Outcome.answered)
    await put_right(rt.store, beat=DEAD_AFTER)
    now = utcnow()
    [found] = [each for each in await connections(rt) if each.id == connection.id]
    held = load(found.judged)
    assert held == without_future(held, now)
    policy = (await rt.configuration()).policy
    latest = now + timedelta(hours=policy.login_check_hours)
    assert is_check_due(found.id, held, found.created_at, policy, now=latest)


async def test_a_late_event_raises_doubt_although_a_read_is_dated_tomorrow(rt: Runtime) -> None:
    await sweep(rt)
    connection = (await connections(rt))[0]
    with off(DAY):
        await see(rt, connection.id, "read", Outcome.answered)
    await see(rt, connection.id, "probe", Outcome.answered)
    happened = utcnow()
    await see(rt, connection.id, "probe", Outcome.answered)
    await see(rt, connection.id, "webhook", Outcome.login_lost, at=happened)
    [found] = [each for each in await connections(rt) if each.id == connection.id]
    assert found.judged["lost_by"] == "webhook"


async def test_what_was_asked_by_the_wrong_clock_and_written_by_the_right_one_is_of_now(
    rt: Runtime,
) -> None:
    """Universe 30509: nobody was probed any more, for the sweep had begun a day ahead."""
    await sweep(rt)
    connection = (await connections(rt))[0]
    await see(rt, connection.id, "probe", Outcome.answered, at=utcnow() + DAY)
    [found] = [each for each in await connections(rt) if each.id == connection.id]
    assert found.last_checked_at is not None
    assert found.last_checked_at <= utcnow()
    assert found.next_probe_at is not None
    assert found.next_probe_at < utcnow() + timedelta(hours=1)
