"""What was read goes into the index once, in order, and never over something newer."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import col, select

from linekeeper.reconcile.upsert import AddedChange, Arrived, upsert_records
from linekeeper.store import Store
from linekeeper.store.bodies import open_body
from linekeeper.store.tables import Change, Connection, Record

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ENTITY = "eam/assets"


def asset(key: str, minute: int | None = 0, **fields: Any) -> dict[str, Any]:
    """A record last changed `minute` minutes before or after eight."""
    record = {"key": key, "name": "Pump", **fields}
    if minute is not None:
        record["updatedAt"] = (NOW - timedelta(hours=1) + timedelta(minutes=minute)).isoformat()
    return record


@pytest.fixture
async def connection(store: Store) -> str:
    """A connection to write records of."""
    row = Connection(app="default", makini_key="k1", name="Acme", slug="acme")
    async with store.write() as session:
        session.add(row)
    return row.id


async def put(
    store: Store,
    connection: str,
    records: Sequence[dict[str, Any]],
    *,
    minute: int = 0,
    **options: Any,
) -> list[AddedChange]:
    """`records` read `minute` minutes after nine."""
    now = NOW + timedelta(minutes=minute)
    options = {"bodies": False, "fields": (), "asked_at": now, "received_at": now, **options}
    source = options.pop("source", "poll")
    arrived = Arrived(connection, ENTITY, records, **options)
    async with store.write() as session:
        return await upsert_records(store, session, [arrived], source=source, now=now)


async def index(store: Store) -> dict[str, Record]:
    """The index by key."""
    async with store.read() as session:
        return {row.key: row for row in await session.scalars(select(Record))}


async def feed(store: Store) -> list[tuple[int, str, str]]:
    """The feed: seq, key, op."""
    async with store.read() as session:
        rows = await session.scalars(select(Change).order_by(col(Change.seq)))
        return [(row.seq, row.key, row.op) for row in rows]


async def test_a_record_is_inserted_then_updated_then_left_alone(
    store: Store, connection: str
) -> None:
    assert [c.op for c in await put(store, connection, [asset("1")])] == ["inserted"]
    changed = await put(store, connection, [asset("1", 5, name="Valve")], minute=1)
    assert [(c.key, c.op, c.seq) for c in changed] == [("1", "updated", 2)]
    assert await put(store, connection, [asset("1", 5, name="Valve")], minute=2) == []
    assert await feed(store) == [(1, "1", "inserted"), (2, "1", "updated")]


@pytest.mark.parametrize("said", ["2026-03-02T08:00:00Z", "2026-03-02T08:00:00.000001Z", None])
async def test_a_time_is_stored_as_all_times_are(
    store: Store, connection: str, said: str | None
) -> None:
    """On SQLite they are text, which is compared as such: each has microseconds."""
    time = None if said is None else datetime.fromisoformat(said)
    await put(store, connection, [{"key": "1", "updatedAt": said}])
    assert (await index(store))["1"].updated_at == time
    async with store.read() as session:
        stored = (await session.execute(text("SELECT updated_at, seen_at FROM record"))).one()
    if store.is_sqlite:
        written = (time, NOW)
        assert tuple(stored) == tuple(t and t.isoformat(timespec="microseconds") for t in written)


async def test_the_order_of_fields_is_no_change(store: Store, connection: str) -> None:
    record = asset("1")
    await put(store, connection, [record])
    assert await put(store, connection, [dict(reversed(record.items()))], minute=1) == []


async def test_keys_that_differ_in_case_or_zeros_are_different_records(
    store: Store, connection: str
) -> None:
    keys = ["a1", "A1", "01", "1", "001"]
    await put(store, connection, [asset(key) for key in keys])
    assert set(await index(store)) == set(keys)


async def test_a_poll_that_was_asked_before_a_webhook_was_read_does_not_undo_it(
    store: Store, connection: str
) -> None:
    await put(store, connection, [asset("1", 5, name="new")], source="webhook", minute=2)
    asked_at = NOW + timedelta(minutes=1)
    stale = await put(store, connection, [asset("1", 0, name="old")], asked_at=asked_at, minute=3)
    assert stale == []
    assert (await index(store))["1"].updated_at == NOW - timedelta(minutes=55)


async def test_a_source_whose_clock_goes_back_is_still_the_truth(
    store: Store, connection: str
) -> None:
    await put(store, connection, [asset("1", 5)])
    assert len(await put(store, connection, [asset("1", 0, name="restored")], minute=1)) == 1


async def test_an_events_data_without_a_newer_time_is_not_applied(
    store: Store, connection: str
) -> None:
    """W1: what comes out of order does not undo what is newer."""
    await put(store, connection, [asset("1", 5)])
    for minute in (5, 0, None):
        record = asset("1", minute, name="other")
        assert await put(store, connection, [record], source="event", minute=1) == []


async def test_a_key_that_comes_twice_is_one_change_and_the_newer_one_counts(
    store: Store, connection: str
) -> None:
    records = [asset("1", 5, name="new"), asset("1", 0, name="old")]
    assert len(await put(store, connection, records)) == 1
    assert (await index(store))["1"].updated_at == NOW - timedelta(minutes=55)


async def test_bodies_of_any_content_and_size_are_kept_where_they_are_wanted(
    store: Store, connection: str
) -> None:
    records: list[dict[str, Any]] = [
        asset("nul", note="a\0b"),
        asset("lone", note="\ud800"),
        asset("big", note="x" * 5_000_000),
        asset("\0key"),
        asset("k\udfff"),
        asset("k" * 4000),
        {"name": "no key"},
    ]
    assert len(await put(store, connection, records, bodies=True)) == 6
    found = await index(store)
    body = {key: open_body(store.cipher, row.body) or "" for key, row in found.items()}
    assert '"a\\u0000b"' in body["nul"]
    assert '"\\ud800"' in body["lone"]
    assert len(body["big"]) > 5_000_000
    assert sum(key.startswith("sha256:") for key in found) == 3
    assert await put(store, connection, records, bodies=True, minute=1) == []


async def test_a_webhook_after_the_poll_that_found_its_change_is_noted_as_late(
    store: Store, connection: str
) -> None:
    await put(store, connection, [asset("1")])
    async with store.write() as session:
        for row in await session.scalars(select(Change)):
            row.recovered = True
            session.add(row)
    await put(store, connection, [asset("1")], source="webhook", minute=3)
    async with store.read() as session:
        rows = list(await session.scalars(select(Change)))
    assert [row.announced_at for row in rows] == [NOW + timedelta(minutes=3)]


async def test_what_arrives_of_several_connections_is_kept_apart_and_numbered_in_each(
    store: Store, connection: str
) -> None:
    other = Connection(app="default", makini_key="k2", name="Globex", slug="globex")
    async with store.write() as session:
        session.add(other)
    assets, orders = "eam/assets", "eam/work-orders"
    odd = 'O\'Brien "7" \\ \u2028 0012'

    async def arrive(
        minute: int, *some: tuple[str, str, Sequence[dict[str, Any]]]
    ) -> list[AddedChange]:
        at = NOW + timedelta(minutes=minute)
        arrived = [
            Arrived(*one, bodies=one[1] == orders, fields=(), asked_at=at, received_at=at)
            for one in some
        ]
        async with store.write() as session:
            return await upsert_records(store, session, arrived, source="webhook", now=at)

    first = await arrive(
        0,
        (connection, assets, [asset("1"), asset(odd)]),
        (connection, orders, [asset("1", name="Inspect")]),
        (other.id, assets, [asset("1", name="Fan")]),
        (other.id, orders, []),
    )
    assert [(c.connection_id, c.entity, c.key, c.seq) for c in first] == [
        (connection, assets, "1", 1),
        (connection, assets, odd, 2),
        (connection, orders, "1", 3),
        (other.id, assets, "1", 1),
    ]
    again = await arrive(
        1,
        (other.id, assets, [asset("1", name="Fan"), asset("2")]),
        (connection, orders, [asset("1", 9, name="Repair")]),
    )
    assert [(c.connection_id, c.entity, c.key, c.seq) for c in again] == [
        (other.id, assets, "2", 2),
        (connection, orders, "1", 4),
    ]
    async with store.read() as session:
        rows = list(await session.scalars(select(Record)))
    assert {(record.connection_id, record.entity, record.key) for record in rows} == {
        (connection, assets, "1"),
        (connection, assets, odd),
        (connection, orders, "1"),
        (other.id, assets, "1"),
        (other.id, assets, "2"),
    }
    assert {record.entity for record in rows if record.body} == {orders}


async def test_a_late_webhook_marks_what_a_poll_had_recovered_and_nothing_else(
    store: Store, connection: str
) -> None:
    await put(store, connection, [asset("1"), asset("2")])
    async with store.write() as session:
        for change in await session.scalars(select(Change)):
            change.recovered, change.due = True, None
    await put(store, connection, [asset("1")], minute=3, source="webhook")
    async with store.read() as session:
        found = {c.key: (c.announced_at, c.due) for c in await session.scalars(select(Change))}
    assert found == {"1": (NOW + timedelta(minutes=3), "late"), "2": (None, None)}
