"""Calls of the product, and logins nobody uses, beside what Makini says of a connection."""

from datetime import timedelta

from sqlalchemy import update

import sandbox
from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection
from linekeeper.sweep.report_call import Call, follow_up, record_call
from tests.health.test_contradictions import first, lose, reads
from tests.health.test_sweep import adopt, connections, incidents, sweep


async def reported(rt: Runtime, connection: Connection, *calls: tuple[int, str | None]) -> None:
    app = await rt.app("default")
    for status, code in calls:
        await record_call(rt, app, connection.id, Call(status, utcnow(), code))
    await follow_up(rt, "default", connection.id, since=utcnow())


async def test_a_login_nobody_uses_is_tested_once_a_day(rt: Runtime, fleet: sandbox.Served) -> None:
    await adopt(rt, fleet)
    await lose(rt, fleet)
    await sweep(rt)
    assert (await first(rt)).health == "healthy"
    assert reads(fleet) == 0
    async with rt.store.write() as session:
        long_ago = utcnow() - timedelta(hours=25)
        await session.execute(update(Connection).values(created_at=long_ago))
    await sweep(rt)
    found = await connections(rt)
    assert found[0].health == "reauthorization_required"
    assert {connection.health for connection in found[1:]} == {"healthy"}
    assert {connection.evidence for connection in found} == {"read"}
    [incident] = await incidents(rt)
    assert incident.kind == "reauthorization_required"
    before = reads(fleet)
    for _ in range(2):
        await sweep(rt)
    # Only the one that is contested is read again: all there is, as no poll has read any of it.
    assert reads(fleet) - before <= 2 * len((await rt.app("default")).entities)
    assert (await first(rt)).health == "reauthorization_required"


async def test_refused_calls_of_the_product_count_in_observe(
    rt: Runtime, watcher: Runtime, fleet: sandbox.Served
) -> None:
    """C1: a lost login is recognised from failing calls, the product's own too."""
    await sweep(watcher)
    connection = await first(watcher)
    await reported(watcher, connection, *[(401, "AUTHENTICATION_FAILED")] * 5)
    await sweep(watcher)
    assert (await first(watcher)).health == "unknown"
    [incident] = await incidents(watcher)
    assert (incident.kind, incident.status) == ("unknown", "open")
    await reported(watcher, connection, (200, None))
    await sweep(watcher)
    assert (await first(watcher)).health == "healthy"
    [incident] = await incidents(watcher)
    assert incident.status == "resolved"


async def test_a_code_counts_whatever_status_it_comes_with(
    rt: Runtime, watcher: Runtime, fleet: sandbox.Served
) -> None:
    await sweep(watcher)
    connection = await first(watcher)
    await reported(watcher, connection, *[(400, "AUTHENTICATION_FAILED")] * 3)
    assert (await first(watcher)).health == "unknown"
    other = (await connections(watcher))[1]
    await reported(watcher, other, *[(400, "INVALID_REQUEST")] * 5)
    assert (await connections(watcher))[1].health == "healthy"


async def test_one_refused_call_may_have_had_an_old_token(
    rt: Runtime, watcher: Runtime, fleet: sandbox.Served
) -> None:
    await sweep(watcher)
    await reported(watcher, await first(watcher), (401, None))
    await sweep(watcher)
    assert (await first(watcher)).health == "healthy"
    assert await incidents(watcher) == []


async def test_in_manage_a_refused_call_is_settled_by_a_read(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await adopt(rt, fleet)
    connection = await lose(rt, fleet)
    async with rt.store.write() as session:
        long_ago = utcnow() - timedelta(minutes=5)
        await session.execute(update(Connection).values(last_checked_at=long_ago))
    await reported(rt, connection, (401, None))
    assert (await first(rt)).health == "reauthorization_required"
    await sweep(rt)
    assert (await first(rt)).health == "reauthorization_required"
    other = (await connections(rt))[1]
    await reported(rt, other, (401, None))
    assert (await connections(rt))[1].health == "healthy"
