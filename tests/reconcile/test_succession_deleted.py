"""What the first listing of a successor names as deleted is deleted by that listing."""

import asyncio
from collections import Counter

import pytest
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.reconcile.decisions import decide_deletions
from linekeeper.store.tables import Deletion, Record, Succession
from tests.reconcile.test_succession import (
    HOWS,
    ORDERS,
    agrees,
    feed,
    house,
    keys,
    listed,
    logged_in,
    open_house,
    run,
)
from tests.reconnect.conftest import House

__all__ = ["house", "open_house"]  # fixtures


@pytest.mark.parametrize("how", [*HOWS, "shift"])
async def test_what_was_deleted_meanwhile_is_told_after_one_listing(house: House, how: str) -> None:
    """More than the cap on what is only absent; what was deleted long before is told to nobody."""
    [connection, _] = await house.connections()
    world, was = house.fleet.world, listed(house, connection)
    world.faults.deleted = "listed"
    world.change_records(was, ORDERS, delete=3, announce=False)
    await run(house, full=True)
    before = len(await feed(house))
    await house.lose_login(connection)
    known = keys(house, was)
    gone = world.change_records(was, ORDERS, delete=50, announce=False)["deleted"]
    assert set(gone) <= set(known.values())
    new = await logged_in(house, connection, how)
    await run(house)
    changes = (await feed(house))[before:]
    assert sorted(c["key"] for c in changes if c["op"] == "deleted") == sorted(gone)
    held = {key: number for number, key in known.items()}
    for change in changes:
        if change["entity"] == ORDERS and change["op"] == "deleted":
            del held[change["key"]]
        elif change["entity"] == ORDERS and change["op"] == "rekeyed":
            assert change["key"] not in held
            held[change["key"]] = held.pop(change["old_key"])
    assert held == {key: number for number, key in keys(house, listed(house, new)).items()}
    await agrees(house, new)
    await run(house, full=True)
    assert Counter(c["op"] for c in (await feed(house))[before:])["deleted"] == len(gone)
    succession = {row.entity: row for row in await house.rows(Succession)}[ORDERS]
    assert (succession.absent, succession.unmatched, succession.ambiguous) == (0, 0, 0)
    assert await house.rows(Deletion) == []
    assert await house.rows(Record, col(Record.connection_id) == connection.id) == []


async def test_what_was_deleted_before_can_be_undone_at_the_successor(house: House) -> None:
    """It was looked for at the connection before, and announced there without end."""
    [connection, _] = await house.connections()
    world, was = house.fleet.world, listed(house, connection)
    await run(house, full=True)
    world.change_records(was, ORDERS, delete=3, announce=False)
    for _ in range(2):
        await run(house, full=True)
    [deletion] = await house.rows(Deletion)
    assert (deletion.status, deletion.records) == ("applied", 3)
    await house.lose_login(connection)
    new = await logged_in(house, connection, "new")
    await run(house)
    before = len(await feed(house))
    async with asyncio.timeout(20):
        [done] = await decide_deletions(house.rt, new.makini_key, "undo", by="Petra", now=utcnow())
    assert done.records == 3
    changes = (await feed(house))[before:]
    assert [(change["op"], change["connection"]) for change in changes] == [
        ("inserted", new.id)
    ] * 3


async def test_what_was_held_back_before_is_over_where_the_successor_lists_it(house: House) -> None:
    """A permission that was lost is back with the new login: its incident had stayed for ever."""
    [connection, _] = await house.connections()
    world, was = house.fleet.world, listed(house, connection)
    await run(house, full=True)
    world.change_records(was, ORDERS, delete=len(keys(house, was)) // 2, announce=False)
    for _ in range(2):
        await run(house, full=True)
    await house.lose_login(connection)
    new = await logged_in(house, connection, "new")
    collection = world.records.of(listed(house, new))[ORDERS]
    collection.changes.clear()
    collection._live = None
    await run(house)
    for _ in range(2):
        await run(house, full=True)
    assert [each.kind for each in await house.incidents() if each.resolved_at is None] == []
    assert [row.status for row in await house.rows(Deletion)] == ["void"]
    assert await feed(house) == []
