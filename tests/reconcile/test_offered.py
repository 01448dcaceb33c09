"""A 404 for what was read before is a failure, not the end of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.clock import utcnow
from linekeeper.reconcile.together import together
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import IncidentEntry, Record, Watermark
from linekeeper.views.trust_queries import trust_report
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, asset, server, with_one_connection
from tests.reconcile.conftest import adopt, deliver, feed, pointed_at, process, run

__all__ = ["server"]
SITES = "/api/eam/sites"
LOCATIONS = "/api/eam/locations"


@pytest.fixture
async def rt(settings: Settings, store: Store, server: Peer) -> AsyncIterator[Runtime]:
    """A runtime of one connection with two assets, read once, and a site."""
    with_one_connection(server)
    server.answer("GET", ASSETS, of(asset("1"), asset("2")))
    server.answer("GET", SITES, of(asset("s")))
    managed = pointed_at(settings, server.url, makini_entities=("eam/assets", "eam/sites"))
    async with Runtime.open(managed) as opened:
        await adopt(opened)
        assert not (await run(opened)).failures
        yield opened


def of(*records: dict[str, Any]) -> dict[str, Any]:
    return {"data": list(records), "meta": {"last_page": 1, "total": len(records)}}


def not_found(_: object) -> Response:
    return JSONResponse({"message": "Not found."}, 404)


async def mark(rt: Runtime, entity: str = "eam/assets") -> Watermark:
    async with rt.store.read() as session:
        return (
            await session.scalars(select(Watermark).where(col(Watermark.entity) == entity))
        ).one()


async def changed(rt: Runtime) -> list[tuple[str, str]]:
    return [(change.op, change.key) for change in await feed(rt)]


async def test_one_404_of_what_was_read_is_a_failure_and_tried_again_at_the_next_run(
    rt: Runtime, server: Peer
) -> None:
    before = await mark(rt)
    server.answer("GET", ASSETS, not_found)
    done = await run(rt)
    [failure] = done.failures
    assert failure.entity == "eam/assets"
    assert "does not know this" in failure.message
    assert done.readings == 1  # the other entity
    after = await mark(rt)
    assert after.offered
    assert after.not_found_since is not None
    assert (after.failure, after.failures) == ("not_found", 1)
    assert (after.position, after.polled_at, after.full_at) == (
        before.position,
        before.polled_at,
        before.full_at,
    )
    server.answer("GET", ASSETS, of(asset("1"), asset("2", 5)))
    assert not (await run(rt)).failures
    assert await changed(rt) == [("updated", "2")]
    assert (await mark(rt)).error is None
    assert (await mark(rt)).not_found_since is None


async def test_what_is_not_found_for_a_day_is_not_offered_and_its_return_is_no_baseline(
    rt: Runtime, server: Peer
) -> None:
    began = utcnow()
    server.answer("GET", ASSETS, not_found)
    for hours in (1, 13, 24):
        assert len((await run(rt, started=began + timedelta(hours=hours))).failures) == 1
        assert (await mark(rt)).offered
    assert not (await run(rt, started=began + timedelta(hours=26))).failures
    assert not (await mark(rt)).offered
    async with rt.store.read() as session:
        entries = await session.scalars(select(IncidentEntry).order_by(col(IncidentEntry.id)))
        assert "Makini answered 404 for a day" in entries.all()[-1].text
    server.seen.clear()
    assert not (await run(rt, started=began + timedelta(hours=27))).failures
    assert server.asked(ASSETS) == []

    server.answer("GET", ASSETS, of(asset("1"), asset("2", 5), asset("3", 6)))
    assert not (await run(rt, started=began + timedelta(days=9))).failures
    assert sorted(await changed(rt)) == [("inserted", "3"), ("updated", "2")]
    assert (await mark(rt)).offered
    async with rt.store.read() as session:
        assets = await session.scalars(select(Record).where(col(Record.entity) == "eam/assets"))
        assert {record.key for record in assets if record.deleted_at is None} == {"1", "2", "3"}


async def test_another_failure_in_between_begins_the_day_anew(rt: Runtime, server: Peer) -> None:
    began = utcnow()
    server.answer("GET", ASSETS, not_found)
    await run(rt, started=began)
    server.answer("GET", ASSETS, lambda _: JSONResponse({"message": "No."}, 400))
    await run(rt, started=began + timedelta(hours=20))
    server.answer("GET", ASSETS, not_found)
    for hours in (25, 40):
        assert (await run(rt, started=began + timedelta(hours=hours))).failures
    assert (await mark(rt)).offered


async def test_what_was_never_offered_is_no_failure_and_its_first_listing_is_the_baseline(
    settings: Settings, rt: Runtime, server: Peer
) -> None:
    wider = pointed_at(settings, server.url, makini_entities=("eam/assets", "eam/locations"))
    async with Runtime.open(wider) as other:
        assert not (await run(other)).failures
        assert not (await mark(other, "eam/locations")).offered
        server.answer("GET", LOCATIONS, of(asset("l")))
        assert not (await run(other, full=True)).failures
        assert (await mark(other, "eam/locations")).offered
        assert await changed(other) == []


@pytest.fixture
async def wider(settings: Settings, rt: Runtime, server: Peer) -> AsyncIterator[Runtime]:
    """The same that reads locations too, which the system answers with 404."""
    entities = ("eam/assets", "eam/sites", "eam/locations")
    async with Runtime.open(pointed_at(settings, server.url, makini_entities=entities)) as opened:
        yield opened


async def test_what_was_not_found_at_first_is_asked_for_again_soon_and_ever_less_often(
    wider: Runtime, server: Peer
) -> None:
    began = utcnow()
    asked = []
    for hours in (*(quarters / 4 for quarters in range(16)), *range(4, 64, 4)):
        server.seen.clear()
        assert not (await run(wider, started=began + timedelta(hours=hours))).failures
        if server.asked(LOCATIONS):
            asked.append(hours)
    assert asked == [0, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 56]
    assert not (await mark(wider, "eam/locations")).offered
    server.answer("GET", LOCATIONS, of(asset("l"), asset("m")))
    assert not (await run(wider, started=began + timedelta(days=4))).failures
    assert (await mark(wider, "eam/locations")).not_found_since is None
    assert await changed(wider) == []
    server.answer("GET", LOCATIONS, of(asset("l"), asset("m", 5)))
    assert not (await run(wider, started=began + timedelta(days=4, hours=1))).failures
    assert await changed(wider) == [("updated", "m")]


async def test_an_answer_that_an_entity_is_not_offered_is_no_reading_of_its_connection(
    wider: Runtime, server: Peer
) -> None:
    began = utcnow()
    await run(wider, started=began)
    again = utcnow()
    await run(wider, started=began + timedelta(minutes=5))  # locations are not asked for again
    [line] = (await trust_report(wider.store, now=utcnow())).lines
    assert line.polled_at is not None
    assert line.polled_at >= again
    nowhere = began + timedelta(days=2)
    for path in (ASSETS, SITES):
        server.answer("GET", path, not_found)
    for hours in (0, 25):
        await run(wider, started=nowhere + timedelta(hours=hours))
    again = utcnow()
    assert not (await run(wider, started=nowhere + timedelta(hours=51), full=True)).failures
    assert (await together(wider.store, again)).connections == 0
    [line] = (await trust_report(wider.store, now=utcnow())).lines
    assert line.polled_at is None


async def test_a_record_that_a_webhook_names_says_that_its_entity_is_offered(
    wider: Runtime, server: Peer
) -> None:
    for hours in (72, 48, 1):
        await run(wider, started=utcnow() - timedelta(hours=hours))
    server.answer("GET", LOCATIONS, of(asset("l"), asset("m"), asset("n")))
    server.answer("GET", f"{LOCATIONS}/l", {"data": asset("l")})
    await deliver(wider, "k1", ["l"], plural="locations")
    await process(wider)
    assert not (await run(wider)).failures
    assert (await mark(wider, "eam/locations")).offered
    async with wider.store.read() as session:
        found = await session.scalars(select(Record).where(col(Record.entity) == "eam/locations"))
        assert {record.key for record in found} == {"l", "m", "n"}
    assert await changed(wider) == [("inserted", "l")]  # the others were there before


async def test_a_known_record_that_a_webhook_updates_says_that_its_entity_is_offered_again(
    rt: Runtime, server: Peer
) -> None:
    began = utcnow()
    server.answer("GET", ASSETS, not_found)
    for hours in (1, 26):
        await run(rt, started=began + timedelta(hours=hours))
    assert not (await mark(rt)).offered
    server.answer("GET", ASSETS, of(asset("1", 5), asset("2", 5)))
    server.answer("GET", f"{ASSETS}/2", {"data": asset("2", 5)})
    await deliver(rt, "k1", ["2"])
    await process(rt)
    assert await changed(rt) == [("updated", "2")]
    assert not (await run(rt, started=began + timedelta(hours=27))).failures
    assert (await mark(rt)).offered
    assert await changed(rt) == [("updated", "2"), ("updated", "1")]


@pytest.mark.parametrize("keys", [["1"], ["1", "2"]])
async def test_what_a_webhook_names_while_its_listing_is_not_found_is_read_by_the_next_poll(
    rt: Runtime, server: Peer, keys: list[str]
) -> None:
    """Also where the source dates the change from long before: a poll for what is new lacks it."""
    began = utcnow()
    server.answer("GET", ASSETS, of(asset("1"), asset("2", 59)))
    assert not (await run(rt, started=began + timedelta(hours=1))).failures
    server.answer("GET", ASSETS, not_found)
    await deliver(rt, "k1", keys)
    await process(rt)
    now = of(asset("1", 5), asset("2", 59), asset("3", 5))

    def listed(request: Request) -> Response:
        since = request.query_params.get("filter[updatedAt:gteq]", "")
        return JSONResponse(of(*(each for each in now["data"] if each["updatedAt"] >= since)))

    server.answer("GET", ASSETS, listed)
    assert not (await run(rt, started=began + timedelta(hours=2))).failures
    assert await changed(rt) == [("updated", "2"), ("updated", "1"), ("inserted", "3")]


def listing_while(server: Peer, does: Callable[[], Awaitable[None]], answer: Response) -> None:
    """Once: the listing is answered as it was before `does`, which is done in this task's loop."""
    loop = asyncio.get_running_loop()

    async def listed(_: Request) -> Response:
        server.answer("GET", ASSETS, not_found)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(does(), loop))
        return answer

    server.answer("GET", ASSETS, listed)


async def test_what_a_webhook_names_while_a_whole_listing_is_under_way_is_read_by_the_next(
    rt: Runtime, server: Peer
) -> None:
    """The listing shows the record as it was before; the webhook's own reading is not found."""
    began = utcnow()

    async def changed_meanwhile() -> None:
        await deliver(rt, "k1", ["1", "2"])
        await process(rt)

    before = JSONResponse(of(asset("1"), asset("2", 59)))
    listing_while(server, changed_meanwhile, before)
    assert not (await run(rt, started=began + timedelta(hours=1), full=True)).failures
    now = of(asset("1", 5), asset("2", 59))

    def listed(request: Request) -> Response:
        since = request.query_params.get("filter[updatedAt:gteq]", "")
        return JSONResponse(of(*(each for each in now["data"] if each["updatedAt"] >= since)))

    server.answer("GET", ASSETS, listed)
    assert not (await run(rt, started=began + timedelta(hours=2))).failures
    assert await changed(rt) == [("updated", "2"), ("updated", "1")]


async def test_a_record_that_comes_while_its_entity_is_not_found_has_it_listed_by_the_next_poll(
    wider: Runtime, server: Peer
) -> None:
    """The poll finds that the system doesn't offer it; meanwhile a webhook brings a record."""
    began = utcnow()
    await run(wider, started=began)
    locations = of(asset("l"))
    loop = asyncio.get_running_loop()

    async def brought() -> None:
        server.answer("GET", f"{LOCATIONS}/l", {"data": asset("l")})
        await deliver(wider, "k1", ["l"], plural="locations")
        await process(wider)

    async def missing(request: Request) -> Response:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(brought(), loop))
        return not_found(request)

    server.answer("GET", LOCATIONS, missing)
    await run(wider, started=began + timedelta(hours=1))
    server.answer("GET", LOCATIONS, locations)
    await run(wider, started=began + timedelta(hours=1, minutes=5))
    assert (await mark(wider, "eam/locations")).offered
