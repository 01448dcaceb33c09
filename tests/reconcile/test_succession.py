"""A login that makes a new connection: what it inherits, and what is told, whatever keys do."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.reconcile import succession_queries
from linekeeper.reconcile.purge import StillAwaited, forget_records
from linekeeper.reconcile.run import reconcile
from linekeeper.reconcile.service import ReconcileRun
from linekeeper.reconcile.succession import may_take_over
from linekeeper.store.tables import (
    Change,
    Connection,
    ConnectionSetting,
    Deletion,
    Drift,
    Incident,
    Outbox,
    Record,
    Silence,
    Succession,
    SuccessionStep,
)
from sandbox.fleet import Connection as Listed
from tests.receiver.test_connect import link_for, through
from tests.reconcile.conftest import deliver, index_of, no_sleep, parsed, process
from tests.reconnect.conftest import House, open_house

__all__ = ["open_house"]  # a fixture

ORDERS = "eam/work-orders"
HOWS = ("new", "prefix", "rename")
Opened = Callable[..., Awaitable[House]]


@pytest.fixture
async def house(open_house: Opened) -> House:
    """Two connections of two hundred records each, read once; the product is told of changes."""
    house = await open_house(
        connections=2,
        makini={"records_per_connection": 200},
        is_read=True,
        forward_url="http://127.0.0.1:9/hooks",
    )
    assert await ops(house) == {}
    return house


async def run(house: House, **options: Any) -> ReconcileRun:
    return await reconcile(house.rt, sleep=no_sleep, **options)


def listed(house: House, connection: Connection) -> Listed:
    found = house.fleet.world.find(connection.makini_key)
    assert found is not None
    return found


def keys(house: House, connection: Listed, entity: str = ORDERS) -> dict[int, str]:
    """The live records' keys by what Makini made them from."""
    collection = house.fleet.world.records.of(connection)[entity]
    return {number: collection.key(number) for number in collection.live()}


async def logged_in(house: House, connection: Connection, how: str) -> Connection:
    """The customer logs in again, which makes a new connection."""
    house.fleet.world.faults.login = how
    _, path = await link_for(house, connection)
    answer = await through(house, path, connection.makini_key)
    house.fleet.world.faults.login = ""
    assert answer.status_code == 200, answer.text
    before = await house.connection(connection.id)
    assert before.replaced_by is not None
    return await house.connection(before.replaced_by)


async def feed(house: House, *, name: str = "reader") -> list[dict[str, Any]]:
    headers = await house.key("changes:read", name=f"{name}-{utcnow().timestamp()}")
    answer = await house.http.get("/api/changes", headers=headers)
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def feed_length(house: House) -> int:
    """How many changes there are, for who asks again and again."""
    async with house.store.read() as session:
        return await session.scalar(select(func.count()).select_from(Change)) or 0


async def ops(house: House) -> Counter[str]:
    return Counter(change["op"] for change in await feed(house))


async def agrees(house: House, connection: Connection) -> None:
    """The index is what the new connection really holds."""
    world = house.fleet.world
    truth = world.records.truth(listed(house, connection))
    entities = (await house.rt.app("default")).entities
    wanted = {entity: truth[entity] for entity in entities if truth.get(entity)}
    found = await index_of(house.store)
    assert found[connection.makini_key] == parsed({"k": wanted})["k"]


@pytest.mark.parametrize("how", HOWS)
async def test_what_changed_meanwhile_is_told_and_nothing_else(house: House, how: str) -> None:
    """B11: renamed keys are `rekeyed`, and the gap is told."""
    [connection, other] = await house.connections()
    await house.lose_login(connection)
    world, was = house.fleet.world, listed(house, connection)
    known = keys(house, was)
    gone = world.change_records(was, ORDERS, delete=2, announce=False)["deleted"]
    world.change_records(was, ORDERS, change=6, announce=False)
    world.change_records(was, ORDERS, make=1, announce=False)
    new = await logged_in(house, connection, how)
    now = keys(house, listed(house, new))
    await run(house)
    changes = await feed(house)
    counts = Counter(change["op"] for change in changes)
    live = sum(len(keys(house, listed(house, new), e)) for e in (ORDERS, "eam/assets", "eam/sites"))
    orders = world.records.of(listed(house, new)).get("erp/purchase-orders")
    live += len(orders.live()) if orders else 0
    renamed = 0 if how == "new" else live - 1
    assert counts == Counter(
        {"updated": 6, "inserted": 1} | ({"rekeyed": renamed} if renamed else {})
    )
    assert {change["connection"] for change in changes} == {new.id}
    assert {change["makini_key"] for change in changes} == {new.makini_key}
    pairs = {
        c["old_key"]: c["key"] for c in changes if c["op"] == "rekeyed" and c["entity"] == ORDERS
    }
    if renamed:
        assert pairs == {known[n]: key for n, key in now.items() if n in known}
    # The two that are gone are gone only when a second listing agrees.
    await run(house, full=True)
    deleted = [change["key"] for change in await feed(house) if change["op"] == "deleted"]
    assert sorted(deleted) == sorted(gone)
    await agrees(house, new)
    forwards = [row.payload for row in await house.rows(Outbox, Outbox.channel == "forward")]
    assert Counter(p["type"] for p in forwards) == Counter(
        {f"record.{op}": count for op, count in counts.items()} | {"record.deleted": 2}
    )
    said = {p["data"]["old_key"]: p["data"]["keys"] for p in forwards if "old_key" in p["data"]}
    assert said.items() >= {old: [key] for old, key in pairs.items()}.items()
    causes = {(row.connection_id, row.cause) for row in await house.rows(Drift) if row.missed}
    assert causes == {(new.id, "backfill")}
    assert await house.rows(Record, Record.connection_id == connection.id) == []
    assert await house.rows(SuccessionStep) == []
    assert {row.connection_id for row in await house.rows(Record)} == {new.id, other.id}


async def test_customer_tags_silences_and_the_open_incident_go_over(house: House) -> None:
    [connection, _] = await house.connections()
    await house.lose_login(connection)
    async with house.store.write() as session:
        await session.execute(
            update(Connection).where(col(Connection.id) == connection.id).values(tags=["gold"])
        )
        session.add(
            Silence(
                scope="connection",
                subject=connection.id,
                label="it",
                starts_at=utcnow(),
                ends_at=utcnow(),
                by="tests",
            )
        )
        session.add(
            ConnectionSetting(connection_id=connection.id, entity="eam/assets", forward_to="crm")
        )
    new = await logged_in(house, connection, "rename")
    old = await house.connection(connection.id)
    assert (old.setup, old.replaced_by) == ("disconnected", new.id)
    assert (new.customer_id, new.slug) == (connection.customer_id, connection.slug)
    assert "gold" in new.tags
    [setting] = await house.rows(ConnectionSetting)
    assert (setting.connection_id, setting.forward_to) == (new.id, "crm")
    [silence] = await house.rows(Silence)
    assert silence.subject == new.id
    [incident] = await house.incidents()
    assert incident.status == "resolved"
    assert incident.cause == f"connection:{new.id}:health"


async def test_a_webhook_before_the_first_listing_announces_nothing_as_new(house: House) -> None:
    [connection, _] = await house.connections()
    was = listed(house, connection)
    known = keys(house, was)
    new = await logged_in(house, connection, "rename")
    now = keys(house, listed(house, new))
    world = house.fleet.world
    made = world.change_records(listed(house, new), ORDERS, make=1, announce=False)["made"]
    await deliver(house.rt, new.makini_key, [now[0], *made], plural="work-orders")
    await process(house.rt)
    assert await ops(house) == {}
    await run(house)
    changes = [change for change in await feed(house) if change["entity"] == ORDERS]
    assert Counter(c["op"] for c in changes) == {"rekeyed": len(known), "inserted": 1}
    await deliver(house.rt, new.makini_key, [now[1]], plural="work-orders")
    await process(house.rt)
    assert len([c for c in await feed(house) if c["entity"] == ORDERS]) == len(changes)


def test_a_listing_that_may_lack_records_is_waited_for_a_day() -> None:
    now = utcnow()
    waiting = Succession(connection_id="new", entity=ORDERS, predecessor_id="old", created_at=now)
    assert may_take_over(waiting, doubtful=False, now=now)
    assert not may_take_over(waiting, doubtful=True, now=now + timedelta(hours=23))
    assert may_take_over(waiting, doubtful=True, now=now + timedelta(hours=24))


async def test_a_second_login_before_the_first_listing_loses_nothing(house: House) -> None:
    [connection, _] = await house.connections()
    known = keys(house, listed(house, connection))
    middle = await logged_in(house, connection, "rename")
    new = await logged_in(house, middle, "rename")
    now = keys(house, listed(house, new))
    await run(house)
    changes = [c for c in await feed(house) if c["entity"] == ORDERS]
    assert {c["old_key"]: c["key"] for c in changes} == {known[n]: key for n, key in now.items()}


async def test_a_run_cut_short_between_the_steps_tells_each_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(succession_queries, "AT_ONCE", 5)
    [connection, _] = await house.connections()
    known = keys(house, listed(house, connection))
    new = await logged_in(house, connection, "rename")
    now = keys(house, listed(house, new))
    for _ in range(40):
        running = asyncio.create_task(run(house))
        before = await feed_length(house)
        while not running.done() and await feed_length(house) < before + 20:
            await asyncio.sleep(0)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        if not await house.rows(Succession, Succession.status != "done"):
            break
    await run(house)
    assert await house.rows(Succession, Succession.status != "done") == []
    changes = [c for c in await feed(house) if c["entity"] == ORDERS]
    assert len(changes) == len(known)
    assert {c["old_key"]: c["key"] for c in changes} == {known[n]: key for n, key in now.items()}
    await agrees(house, new)


@pytest.mark.parametrize("is_planned", [False, True])
async def test_what_the_successor_has_yet_to_take_over_is_not_purged(
    house: House, monkeypatch: pytest.MonkeyPatch, is_planned: bool
) -> None:
    """The product was told that every record was new, or nothing of the new keys."""
    monkeypatch.setattr(succession_queries, "AT_ONCE", 5)
    [connection, _] = await house.connections()
    known = keys(house, listed(house, connection))
    new = await logged_in(house, connection, "rename")
    if is_planned:
        running = asyncio.create_task(run(house))
        while not running.done() and await feed_length(house) < 20:
            await asyncio.sleep(0)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    assert await house.rows(Succession, Succession.status != "done")
    with pytest.raises(StillAwaited):
        await forget_records(house.store, connection.id)
    await run(house)
    changes = await feed(house)
    assert {change["op"] for change in changes} == {"rekeyed"}
    assert len([change for change in changes if change["entity"] == ORDERS]) == len(known)
    assert await forget_records(house.store, connection.id) == 0
    await agrees(house, new)


async def test_old_rows_too_little_is_known_of_are_counted_and_stay(house: House) -> None:
    [connection, _] = await house.connections()
    async with house.store.write() as session:
        await session.execute(
            update(Record)
            .where(col(Record.entity) == ORDERS)
            .values(number=None, natural_key=None, plain_hash=None, updated_at=None)
        )
    known = keys(house, listed(house, connection))
    new = await logged_in(house, connection, "rename")
    for _ in range(3):
        await run(house, full=True)
    changes = [c for c in await feed(house) if c["entity"] == ORDERS]
    assert Counter(c["op"] for c in changes) == {"inserted": len(known)}
    [held] = await house.rows(Deletion)
    assert (held.status, held.records, held.connection_id) == ("unmatched", len(known), new.id)
    [incident] = await house.rows(Incident, Incident.kind == "records_unmatched")
    assert incident.resolved_at is None
    assert f"{len(known)} unmatched records" in incident.title
    async with house.store.read() as session:
        live = await session.scalar(
            select(func.count())
            .select_from(Record)
            .where(col(Record.entity) == ORDERS, col(Record.connection_id) == new.id)
            .where(col(Record.deleted_at).is_(None))
        )
    assert live == 2 * len(known)


async def test_the_products_api_says_how_many_records_there_are(house: House) -> None:
    [connection, _] = await house.connections()
    headers = await house.key("connections:read", name="reader")
    answer = await house.http.get(f"/api/connections/{connection.id}", headers=headers)
    assert answer.status_code == 200
    found = {entity["entity"]: entity for entity in answer.json()["records"]}
    live = len(keys(house, listed(house, connection)))
    assert (found[ORDERS]["source"], found[ORDERS]["here"]) == (live, live)
    assert found[ORDERS]["state"] == "agrees"
    assert found[ORDERS]["agreed_at"] == found[ORDERS]["compared_at"]
