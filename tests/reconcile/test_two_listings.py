"""Two listings that agree are some time apart, and a first sync proves nothing gone."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.consumer.alive import DEAD_AFTER
from linekeeper.consumer.clock_ahead import put_right
from linekeeper.reconcile.policy import POLICY
from linekeeper.store.tables import Connection, Record, Watermark
from linekeeper.sweep.batch import probe_batch
from tests.reconcile.test_succession import (
    ORDERS,
    House,
    Opened,
    agrees,
    listed,
    logged_in,
    ops,
    run,
)
from tests.reconnect.conftest import open_house
from tests.reconnect.working_clock import at

__all__ = ["open_house"]  # a fixture


@pytest.fixture
async def house(open_house: Opened) -> House:
    """One connection with forty records of each entity, read once."""
    return await open_house(
        connections=1,
        makini={"records_per_connection": 40},
        is_read=True,
        forward_url="http://127.0.0.1:9/hooks",
    )


async def list_again(house: House) -> None:
    """The schedule lists everything again, for whatever reason."""
    async with house.store.write() as session:
        await session.execute(update(Watermark).values(confirm_at=utcnow()))
    await run(house)


async def pass_time(house: House) -> None:
    """As if the time between two listings had passed."""
    async with house.store.write() as session:
        await session.execute(
            update(Record)
            .where(col(Record.absent_since).is_not(None))
            .values(absent_since=utcnow() - POLICY.confirm)
        )


async def test_listings_within_ten_minutes_are_one_evidence(house: House) -> None:
    [connection] = await house.connections()
    world, source = house.fleet.world, listed(house, connection)
    world.change_records(source, ORDERS, delete=1, announce=False)
    await list_again(house)
    await list_again(house)
    await list_again(house)
    assert await ops(house) == {}
    marks = await house.rows(Watermark, Watermark.entity == ORDERS)
    assert all(m.confirm_at and m.confirm_at > utcnow() for m in marks)  # it is asked once more
    await pass_time(house)
    await list_again(house)
    assert await ops(house) == Counter(deleted=1)
    await agrees(house, connection)


async def test_nothing_is_gone_while_a_first_sync_is_under_way(house: House) -> None:
    """The successor lists what it has so far, and a total of that."""
    [connection] = await house.connections()
    await house.lose_login(connection)
    world = house.fleet.world
    new = await logged_in(house, connection, "rename")
    source = listed(house, new)
    source.status_override = "Synchronizing"
    await _set(house, new, setup="syncing", created_at=utcnow() - timedelta(hours=3))
    late = world.change_records(source, ORDERS, delete=3, announce=False)["deleted"]
    for _ in range(3):
        await list_again(house)
        await pass_time(house)
    assert (await ops(house))["deleted"] == 0
    assert late
    source.status_override = None
    await _set(house, new, setup="live", sync_status="done")
    await list_again(house)  # compares, and misses for the first time
    assert (await ops(house))["deleted"] == 0
    await pass_time(house)
    await list_again(house)
    assert (await ops(house))["deleted"] == 3
    await agrees(house, new)


@pytest.mark.parametrize(("hours", "gone"), [(1, False), (25, True)])
async def test_a_young_connection_that_says_it_syncs_is_in_its_first_sync(
    house: House, hours: int, *, gone: bool
) -> None:
    [connection] = await house.connections()
    made = utcnow() - timedelta(hours=hours)
    await _set(house, connection, sync_status="inprogress", created_at=made)
    source = listed(house, connection)
    house.fleet.world.change_records(source, ORDERS, delete=1, announce=False)
    await list_again(house)
    await pass_time(house)
    await list_again(house)
    assert (await ops(house))["deleted"] == int(gone)


async def look(house: House, connection: Connection) -> None:
    """A sweep in which this connection is due."""
    await house.sweep()
    app = await house.rt.app("default")
    await probe_batch(house.rt, app, [connection.id], started=utcnow(), last_try=True)


@pytest.mark.parametrize("said_by", ["list", "status"])
async def test_what_the_first_sync_brought_is_read_once_it_is_over(
    house: House, said_by: str
) -> None:
    """Its records are older than the last poll, so that no list of changes has them."""
    [connection] = await house.connections()
    source = listed(house, connection)
    if said_by == "list":
        source.status_override = "Synchronizing"
        await _set(house, connection, setup="syncing")
    else:
        source.lagging_status = "inprogress"
        source.cached_slot = -1
        await _set(house, connection, judged={})
    await look(house, connection)
    async with house.store.write() as session:  # as if they had not been read by Makini yet
        keys = select(col(Record.key)).where(col(Record.entity) == ORDERS).limit(15)
        await session.execute(delete(Record).where(col(Record.key).in_(keys)))
    await run(house)
    with pytest.raises(AssertionError):
        await agrees(house, connection)
    source.status_override = source.lagging_status = None
    source.cached_slot = -1
    await look(house, connection)
    await run(house)
    await agrees(house, connection)
    [mark] = await house.rows(Watermark, Watermark.entity == ORDERS)
    assert mark.confirm_at is None  # and not again and again


async def test_what_was_read_by_a_clock_that_was_ahead_is_read_again_when_it_is_due(
    house: House,
) -> None:
    """It was set back while the run was at work, and others had been put right before it wrote."""
    [connection] = await house.connections()
    await house.control("settings", latency_ms=400)
    with at(utcnow() + timedelta(days=1)):
        running = asyncio.create_task(run(house, full=True))
        await asyncio.sleep(0.2)
    await put_right(house.store, beat=DEAD_AFTER)  # a lease given back while the clock was ahead
    await running
    await house.control("settings", latency_ms=0)
    assert max(mark.polled_at for mark in await house.rows(Watermark) if mark.polled_at) < utcnow()
    house.fleet.world.change_records(listed(house, connection), ORDERS, make=1, announce=False)
    with at(utcnow() + timedelta(minutes=20)):
        await run(house)
    await agrees(house, connection)


async def _set(house: House, connection: Connection, **values: object) -> None:
    async with house.store.write() as session:
        await session.execute(
            update(Connection).where(col(Connection.id) == connection.id).values(**values)
        )
