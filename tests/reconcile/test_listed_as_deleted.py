"""A record that its source lists with the time at which it was deleted is deleted here, at once."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Incident, Record, Watermark
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, asset, server, with_one_connection
from tests.reconcile.conftest import adopt, deliver, drift, feed, pointed_at, process, run

__all__ = ["server"]


def of(*records: dict[str, Any]) -> dict[str, Any]:
    return {"data": list(records), "meta": {"last_page": 1, "total": len(records)}}


def gone(key: str, minute: int) -> dict[str, Any]:
    return asset(key, minute, deletedAt=f"2026-03-02T08:{minute:02d}:00Z")


def there(key: str, minute: int = 0) -> dict[str, Any]:
    return asset(key, minute, deletedAt=None)


@pytest.fixture
async def rt(settings: Settings, store: Store, server: Peer) -> AsyncIterator[Runtime]:
    """A runtime of one connection with three assets, of which one is deleted; read once."""
    with_one_connection(server)
    server.answer("GET", ASSETS, of(there("1"), there("2"), gone("3", 0)))
    managed = pointed_at(settings, server.url, makini_entities=("eam/assets",))
    async with Runtime.open(managed) as opened:
        await adopt(opened)
        assert not (await run(opened, full=True)).failures
        yield opened


async def living(rt: Runtime) -> set[str]:
    async with rt.store.read() as session:
        return set(await session.scalars(select(col(Record.key)).where(_LIVES)))


_LIVES = col(Record.deleted_at).is_(None)


async def said_so(rt: Runtime) -> list[tuple[str, str]]:
    return [(change.op, change.key) for change in await feed(rt)]


async def test_what_is_listed_as_deleted_from_the_beginning_is_none_of_its_records(
    rt: Runtime,
) -> None:
    assert await living(rt) == {"1", "2"}
    await run(rt, full=True)
    assert await said_so(rt) == []
    async with rt.store.read() as session:
        mark = (await session.scalars(select(Watermark))).one()
        assert (mark.indexed, mark.source_total, mark.lacking, mark.inconsistent) == (2, 2, 0, 0)
        assert (await session.scalars(select(Incident))).all() == []


async def test_a_time_to_come_is_until_when_a_record_is_valid_and_it_lives(
    rt: Runtime, server: Peer
) -> None:
    for said in ("8999-12-31", "9999-12-31T00:00:00Z", (utcnow() + timedelta(days=3)).isoformat()):
        server.answer("GET", ASSETS, of(asset("1", 5, deletedAt=said), there("2"), gone("3", 0)))
        assert not (await run(rt)).failures
        assert await living(rt) == {"1", "2"}
    assert "deleted" not in {op for op, _ in await said_so(rt)}


async def test_a_poll_that_finds_it_says_so_once_and_blames_no_webhook(
    rt: Runtime, server: Peer
) -> None:
    """More of them than would be believed gone by their absence."""
    server.answer("GET", ASSETS, of(gone("1", 5), gone("2", 5), gone("3", 0)))
    for _ in range(2):
        assert not (await run(rt)).failures
    assert await living(rt) == set()
    assert sorted(await said_so(rt)) == [("deleted", "1"), ("deleted", "2")]
    counted = await drift(rt)
    assert (sum(row.missed for row in counted), sum(row.deleted for row in counted)) == (0, 2)


async def test_a_webhook_that_names_it_is_enough_and_one_that_brings_it_back(
    rt: Runtime, server: Peer
) -> None:
    for record, said_last in ((gone("1", 5), "deleted"), (there("1", 9), "inserted")):
        server.answer("GET", f"{ASSETS}/1", {"data": record})
        await deliver(rt, "k1", ["1"])
        await process(rt)
        assert (await said_so(rt))[-1] == (said_last, "1")
        assert ("1" in await living(rt)) == (said_last == "inserted")
    assert len(await said_so(rt)) == 2
