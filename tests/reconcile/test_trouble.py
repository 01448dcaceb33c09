"""Whatever a source does while it is read: afterwards the index is right, each change once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta, timezone
from typing import Any

import pytest
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Deletion, Incident, Record, Watermark
from tests.reconcile.conftest import Check, Peer, adopt, feed, index, parsed, pointed_at, run

ORDERS = "/api/eam/work-orders"


@pytest.fixture(autouse=True)
def small_pages(peer: Peer) -> None:
    """Pages of seven records."""
    assert peer.world is not None
    peer.world.settings.page_limit = 7


async def marks(rt: Runtime) -> list[Watermark]:
    """Every watermark."""
    async with rt.store.read() as session:
        return list(await session.scalars(select(Watermark)))


async def agrees(rt: Runtime, peer: Peer, connection: Connection) -> bool:
    """Whether the index of this connection is what its source holds."""
    return (await index(rt))[connection.makini_key] == parsed(await peer.truth())[
        connection.makini_key
    ]


async def test_a_page_that_repeats_for_ever_loses_nothing_and_moves_no_watermark_too_far(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    before = await index(rt)
    positions = {(m.connection_id, m.entity): m.position for m in await marks(rt)}
    await peer.set("records", change=20, announce=False)
    await peer.set("settings", data_list="repeat")
    done = await run(rt, connections=[one.id], full=True)
    assert all("repeats page" in failure.message for failure in done.failures)
    assert done.broken_off
    broken = [mark for mark in await marks(rt) if mark.broken_off]
    assert broken
    truth = parsed(await peer.truth())
    for held in broken:  # what a whole listing lacks was asked for by its time
        index_now = (await index(rt))[one.makini_key][held.entity]
        position = held.position
        assert position is not None
        assert position >= positions[held.connection_id, held.entity]
        source = truth[one.makini_key][held.entity]
        assert not [k for k, time in source.items() if time <= position and index_now[k] != time]
    assert {key: len(found) for key, found in before.items()} == {
        key: len(found) for key, found in (await index(rt)).items()
    }
    await peer.set("settings", data_list="")
    await run(rt)
    assert await agrees(rt, peer, one)
    numbers = [change.seq for change in await feed(rt) if change.connection_id == one.id]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_listing_cut_short_makes_no_tombstone_and_what_it_held_back_is_void_once_mended(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    before = await index(rt)
    await peer.set("settings", data_list="short")
    for _ in range(3):
        await run(rt, full=True)
    assert await index(rt) == before
    async with rt.store.read() as session:
        assert list(await session.scalars(select(Deletion.status).distinct())) == ["proposed"]
    await peer.set("settings", data_list="")
    await run(rt, full=True)
    assert await index(rt) == before
    async with rt.store.read() as session:
        assert list(await session.scalars(select(Deletion.status).distinct())) == ["void"]
        assert set(await session.scalars(select(Incident.status))) == {"resolved"}
        assert not list(
            await session.scalars(select(Record).where(col(Record.absent_since).is_not(None)))
        )


async def test_times_missing_equal_ahead_local_and_going_back(
    rt: Runtime, peer: Peer, one: Connection, agree: Check
) -> None:
    await run(rt)
    now = utcnow()
    times: dict[str, Any] = {
        "none": None,
        "same-1": (now - timedelta(minutes=1)).isoformat(),
        "same-2": (now - timedelta(minutes=1)).isoformat(),
        "future": (now + timedelta(days=400)).isoformat(),
        "local": (now - timedelta(minutes=2)).replace(tzinfo=None).isoformat(),
        "zone": (now - timedelta(minutes=2)).astimezone(timezone(timedelta(hours=2))).isoformat(),
    }
    await _put(peer, one, {key: {"updatedAt": time} for key, time in times.items()})
    await run(rt)
    await agree()
    assert all(m.position is None or m.position <= utcnow() for m in await marks(rt))
    await _put(
        peer,
        one,
        {
            "future": {"updatedAt": (now - timedelta(seconds=30)).isoformat()},
            "same-1": {"updatedAt": times["same-1"], "name": "another name, the same time"},
        },
    )
    await peer.set("records", change=10, announce=False)
    await run(rt)
    await agree()
    assert len(await feed(rt)) == 6 + 2 + 10


async def _put(peer: Peer, connection: Connection, records: dict[str, dict[str, Any]]) -> None:
    await peer.set(
        "records",
        announce=False,
        put=[
            {
                "connection": connection.makini_key,
                "entity": "eam/assets",
                "record": {"key": key, **fields},
            }
            for key, fields in records.items()
        ],
    )


async def test_keys_that_differ_only_in_case_or_zeros_are_records_of_their_own(
    rt: Runtime, peer: Peer, one: Connection, agree: Check
) -> None:
    await run(rt)
    await _put(peer, one, {key: {"name": key} for key in ("a1", "A1", "01", "1", "001", "1 ")})
    await run(rt)
    await agree()
    assert len(await feed(rt)) == 6


@pytest.mark.parametrize(("fault", "least"), [("429", 2.0), ("429-bare", 1.0), ("500", 1.0)])
async def test_a_limit_or_a_passing_failure_is_waited_for(
    rt: Runtime, peer: Peer, one: Connection, fault: str, least: float
) -> None:
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    def mend() -> None:
        assert peer.world is not None
        peer.world.faults.data_list = ""

    await peer.set("settings", data_list=fault)
    peer.at_call(2, mend, route=ORDERS)
    done = await run(rt, connections=[one.id], sleep=wait)
    assert not done.failures
    assert waits
    assert min(waits) >= least
    assert await agrees(rt, peer, one)


async def test_one_that_stays_limited_fails_alone_and_nothing_of_it_moves(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    await peer.set("records", change=30, announce=False)
    before = {(m.connection_id, m.entity): m.position for m in await marks(rt)}
    await peer.set("settings", data_list="429")
    done = await run(rt, connections=[one.id])
    assert len(done.failures) == 1
    assert {(m.connection_id, m.entity): m.position for m in await marks(rt)} == before
    again = await run(rt, connections=[one.id])
    assert len(again.failures) == 1
    await peer.set("settings", data_list="")
    await run(rt)
    assert await index(rt) == parsed(await peer.truth())
    assert len(await feed(rt)) == 30


async def test_a_token_that_dies_half_way_is_renewed_and_the_listing_goes_on(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    def expire() -> None:
        assert peer.world is not None
        peer.world.expire_token(peer.world.connections[one.makini_key], refresh=True)

    peer.at_call(3, expire, route=ORDERS)
    done = await run(rt, connections=[one.id])
    assert not done.failures
    assert await agrees(rt, peer, one)


async def test_a_login_that_dies_half_way_is_the_judges_business_and_the_rest_goes_on(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    def change() -> None:
        assert peer.world is not None
        peer.world.change_credentials(peer.world.connections[one.makini_key])

    peer.at_call(3, change, route=ORDERS)
    done = await run(rt, connections=[one.id])
    assert len(done.failures) == 1
    async with rt.store.read() as session:
        row = await session.get_one(Connection, one.id)
    assert row.health == "reauthorization_required"
    done = await run(rt)
    assert done.circuits == 1
    assert one.id not in done.connections


@pytest.fixture
async def keeping(settings: Settings, store: Store, peer: Peer) -> AsyncIterator[Runtime]:
    """A runtime that keeps the bodies of assets."""
    managed = pointed_at(settings, peer.url, makini_bodies=("eam/assets",))
    async with Runtime.open(managed) as opened:
        await adopt(opened)
        yield opened


async def test_bodies_of_five_megabytes_are_read_though_a_page_of_them_is_too_large(
    keeping: Runtime, peer: Peer
) -> None:
    async with keeping.store.read() as session:
        found = (await session.scalars(select(Connection).order_by(col(Connection.id)))).first()
    assert found is not None
    await _put(peer, found, {f"big-{n}": {"notes": "x" * 5_000_000} for n in range(3)})
    done = await run(keeping, connections=[found.id])
    assert not done.failures
    assert await agrees(keeping, peer, found)
    async with keeping.store.read() as session:
        bodies = list(
            await session.scalars(
                select(Record.body).where(
                    col(Record.key).startswith("big-"), col(Record.entity) == "eam/assets"
                )
            )
        )
    assert [len(body or "") > 5_000_000 for body in bodies] == [True] * 3
