"""Pages that shift while they are read lose nothing, in either style of paging."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest

from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Watermark
from sandbox.records import Change as Made
from sandbox.records import Collection
from tests.reconcile.conftest import Peer, feed, index, parsed, run

ENTITY = "eam/work-orders"
ORDERS = f"/api/{ENTITY}"


@pytest.fixture(autouse=True)
def small_pages(peer: Peer) -> None:
    """Pages of seven records."""
    assert peer.world is not None
    peer.world.settings.page_limit = 7


def orders(peer: Peer, connection: Connection) -> Collection:
    """The work orders of this connection at their source, in the order of the listing."""
    assert peer.world is not None
    return peer.world.records.of(peer.world.connections[connection.makini_key])[ENTITY]


def deleting(peer: Peer, connection: Connection, *places: int, make: int = 0) -> Callable[[], None]:
    """Delete the work orders at these places and make others at the end, as a step."""

    def step() -> None:
        assert peer.world is not None
        for place in places:
            orders(peer, connection).put(Made(peer.world._tick(), 0, deleted=True), place)
        for _ in range(make):
            orders(peer, connection).put(Made(peer.world._tick(), 0))

    return step


def changed(peer: Peer, connection: Connection, places: Sequence[int]) -> None:
    """These work orders changed in the last hours, one every ten minutes, the first one first."""
    for nth, place in enumerate(places):
        at = utcnow() - timedelta(minutes=10 * (len(places) - nth))
        orders(peer, connection).put(Made(int(at.timestamp() * 1e6), 1), place)


async def lacking(rt: Runtime, peer: Peer, connection: Connection) -> set[str]:
    """The keys whose state at the source is not in the index; what is gone takes two listings."""
    truth = parsed(await peer.truth())[connection.makini_key][ENTITY]
    found = (await index(rt)).get(connection.makini_key, {}).get(ENTITY, {})
    return {key for key, time in truth.items() if found.get(key) != time}


async def watermark(rt: Runtime, connection: Connection) -> Watermark:
    """That of the work orders."""
    async with rt.store.read() as session:
        return await session.get_one(Watermark, (connection.id, ENTITY))


async def position(rt: Runtime, connection: Connection) -> datetime | None:
    """Where it is."""
    return (await watermark(rt, connection)).position


def deleting_at_every_page(peer: Peer, connection: Connection) -> None:
    """A work order goes at every second call for a page, twelve in all."""
    left = iter(range(12))

    def again() -> None:
        place = next(left, None)
        if place is not None:
            deleting(peer, connection, place)()
            peer.at_call(2, again, route=ORDERS)

    peer.at_call(2, again, route=ORDERS)


async def no_watermark_ran_ahead(rt: Runtime, peer: Peer, connection: Connection) -> None:
    """What is lacking changed after the watermark."""
    truth = parsed(await peer.truth())[connection.makini_key][ENTITY]
    mark = await position(rt, connection)
    for key in await lacking(rt, peer, connection):
        assert mark is None or truth[key] > mark


@pytest.mark.parametrize(("paging", "make"), [("page", 3), ("cursor", 0)])
async def test_a_first_listing_from_which_records_went_lacks_nothing_after_the_next_run(
    rt: Runtime, peer: Peer, one: Connection, paging: str, make: int
) -> None:
    await peer.set("settings", paging=paging)
    peer.at_call(2, deleting(peer, one, 0, 1, 2, make=make), route=ORDERS)
    done = await run(rt, connections=[one.id])
    assert not done.failures
    await no_watermark_ran_ahead(rt, peer, one)
    await run(rt, connections=[one.id])
    assert not await lacking(rt, peer, one)


@pytest.mark.parametrize(("paging", "make"), [("page", 0), ("page", 3), ("cursor", 0)])
async def test_changes_that_slipped_from_page_to_page_are_found_in_the_next_run(
    rt: Runtime, peer: Peer, one: Connection, paging: str, make: int
) -> None:
    await run(rt)
    await peer.set("settings", paging=paging)
    changed(peer, one, range(20))
    before = await position(rt, one)
    peer.at_call(2, deleting(peer, one, 0, 1, 2, make=make), route=ORDERS)
    done = await run(rt, connections=[one.id])
    assert not done.failures
    await no_watermark_ran_ahead(rt, peer, one)
    slipped = paging == "cursor" or make > 0  # nothing the source said gave it away
    if slipped:
        assert await lacking(rt, peer, one)
        assert await position(rt, one) == before
    await run(rt, connections=[one.id])
    assert not await lacking(rt, peer, one)
    keys = [change.key for change in await feed(rt)]
    assert len(keys) == len(set(keys)) == (20 + make if slipped else 17)
    for _ in range(2):
        await run(rt, connections=[one.id])
    assert await position(rt, one) != before


async def test_where_records_go_at_every_page_what_came_counts_and_the_next_run_reads_the_rest(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    changed(peer, one, range(20))
    deleting_at_every_page(peer, one)
    done = await run(rt, connections=[one.id])
    assert not done.failures
    assert done.counts.missed
    await no_watermark_ran_ahead(rt, peer, one)
    await run(rt, connections=[one.id])
    assert not await lacking(rt, peer, one)


async def test_a_first_listing_in_which_records_go_at_every_page_is_repeated_whole(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    deleting_at_every_page(peer, one)
    done = await run(rt, connections=[one.id])
    assert not done.failures
    await run(rt, connections=[one.id])
    assert not await lacking(rt, peer, one)


async def test_a_source_without_totals_that_is_quiet_again_is_no_longer_read_again(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt, connections=[one.id])
    await peer.set("settings", paging="cursor")
    assert peer.world is not None
    for place in range(20):  # all of them within what is read again
        orders(peer, one).put(Made(peer.world._tick(), 1), place)
    for _ in range(3):
        await run(rt, connections=[one.id])
    mark = await watermark(rt, one)
    assert mark.position is not None
    assert not await lacking(rt, peer, one)
    await run(rt, connections=[one.id])
    later = await watermark(rt, one)
    assert later.polled_at != mark.polled_at
    # From here on it counts how long ago the watermark moved (`read_from`).
    assert (later.position, later.moved_at) == (mark.position, mark.moved_at)
