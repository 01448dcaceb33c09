"""How often what is read is what is said, and where the budget can't bear it, that is said too."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.clock import utcnow
from linekeeper.makini import MakiniError
from linekeeper.reconcile.budget import calls_needed, over_budget
from linekeeper.reconcile.due import PollOrder, standings
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Watermark, WebhookTrust
from linekeeper.sweep.report_call import Call, record_call
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, asset, server, with_one_connection
from tests.reconcile.conftest import adopt, pointed_at, run

__all__ = ["server"]
FILTER = "filter[updatedAt:gteq]"
SITES = "/api/eam/sites"


def of(*records: dict[str, Any]) -> dict[str, Any]:
    return {"data": list(records), "meta": {"last_page": 1, "total": len(records)}}


@pytest.fixture
async def rt(settings: Settings, store: Store, server: Peer) -> AsyncIterator[Runtime]:
    """A runtime of one connection with assets; it doesn't offer sites."""
    with_one_connection(server)
    server.answer("GET", ASSETS, of(asset("1"), asset("2")))
    managed = pointed_at(settings, server.url, makini_entities=("eam/assets", "eam/sites"))
    async with Runtime.open(managed) as opened:
        await adopt(opened)
        await run(opened)
        yield opened


async def mark(rt: Runtime) -> Watermark:
    async with rt.store.read() as session:
        statement = select(Watermark).where(col(Watermark.entity) == "eam/assets")
        return (await session.scalars(statement)).one()


async def trusted(rt: Runtime, state: str) -> None:
    async with rt.store.write() as session:
        [identifier] = await session.scalars(select(col(Connection.id)))
        await session.merge(
            WebhookTrust(
                connection_id=identifier, state=state, since=utcnow(), measured_at=utcnow()
            )
        )


def filters(server: Peer) -> list[bool]:
    """Of each listing of assets, whether it asked for changes only; not of calls for a total."""
    calls = [seen for seen in server.asked(ASSETS) if ("per_page", "1") not in seen.query]
    found = [FILTER in seen.parameters for seen in calls]
    server.seen.clear()
    return found


@pytest.mark.parametrize("status", [409, 423])
async def test_a_conflict_says_nothing_of_the_time_filter(
    rt: Runtime, server: Peer, status: int
) -> None:
    server.seen.clear()
    left = [1, 1]

    def answer(_: Request) -> Response:
        if left:
            left.pop()
            return JSONResponse({"message": "Somebody else is at it."}, status)
        return JSONResponse(of(asset("1", 5)))

    server.answer("GET", ASSETS, answer)
    assert not (await run(rt)).failures
    assert filters(server) == [True, True, True]
    assert (await mark(rt)).filtered
    server.answer("GET", ASSETS, lambda _: JSONResponse({}, status))
    assert len((await run(rt)).failures) == 1
    assert (await mark(rt)).filtered


@pytest.mark.parametrize("status", [400, 422])
async def test_a_filter_that_was_refused_is_tried_again_a_day_later(
    rt: Runtime, server: Peer, status: int
) -> None:
    began = utcnow()
    heeds = False

    def answer(request: Request) -> Response:
        if FILTER in request.query_params and not heeds:
            return JSONResponse({"message": "No such filter."}, status)
        return JSONResponse(of(asset("1"), asset("2")))

    server.answer("GET", ASSETS, answer)
    server.seen.clear()
    await run(rt, started=began)
    assert filters(server) == [True, False]
    await run(rt, started=began + timedelta(hours=12))
    assert filters(server) == [False]
    await run(rt, started=began + timedelta(hours=25))
    assert filters(server) == [True, False]
    heeds = True
    await run(rt, started=began + timedelta(hours=40))
    assert filters(server) == [False]
    await run(rt, started=began + timedelta(hours=50))
    assert filters(server) == [True]
    held = await mark(rt)
    assert held.filtered
    assert held.filter_refused_at is None


@pytest.mark.parametrize(
    ("state", "minutes"), [("good", 60), ("unknown", 15), ("bad", 5), ("none", 5)]
)
async def test_a_connection_is_read_by_its_cadence_though_it_does_not_offer_an_entity(
    rt: Runtime, server: Peer, state: str, minutes: int
) -> None:
    async def read_at(started: datetime) -> bool:
        if not (await run(rt, started=started, everything=False)).readings:
            return False
        async with rt.store.write() as session:
            for held in await session.scalars(select(Watermark)):
                held.polled_at = started
                session.add(held)
        return True

    began = utcnow() + timedelta(days=2)  # by now it is asked for no more than once a day
    assert await read_at(began)
    server.seen.clear()
    read_after = []
    for minute in range(5, 61, 5):
        await trusted(rt, state)  # each run measures anew, and nothing changes here
        if await read_at(began + timedelta(minutes=minute)):
            read_after.append(minute)
    assert read_after == list(range(minutes, 61, minutes))
    assert server.asked(SITES) == []


async def test_a_budget_that_cannot_bear_the_cadences_is_said(
    rt: Runtime, settings: Settings, server: Peer
) -> None:
    """W8: what is said of the cadence is so, or is said not to be."""
    await trusted(rt, "bad")
    order = PollOrder(started=utcnow())
    app = await rt.app("default")
    known, _ = await standings(rt, app, order)
    assert calls_needed(known) == pytest.approx(1 / 5)
    assert await over_budget(rt, app, order) == ""
    async with rt.store.write() as session:
        for number in range(20):
            session.add(Watermark(connection_id=known[0].id, entity=f"eam/more-{number}"))
    names = ("eam/assets", *(f"eam/more-{number}" for number in range(20)))
    tight = pointed_at(settings, server.url, makini_per_minute=1, makini_entities=names)
    async with Runtime.open(tight) as other:
        said = await over_budget(other, await other.app("default"), order)
    assert "the call budget leaves 1 of the 4 calls a minute" in said
    assert "to read everything once takes 38 min" in said


async def test_what_was_never_read_counts_with_what_the_cadences_need(
    rt: Runtime, settings: Settings, server: Peer
) -> None:
    """Nothing was said of the budget while the first listings took hours."""
    names = tuple(f"eam/more-{number}" for number in range(200))
    tight = pointed_at(settings, server.url, makini_per_minute=1, makini_entities=names)
    async with Runtime.open(tight) as other:
        said = await over_budget(other, await other.app("default"), PollOrder(started=utcnow()))
    assert "of the 13 calls a minute that the cadences need" in said


async def test_where_the_product_met_a_call_limit_our_own_calls_yield(
    settings: Settings, rt: Runtime, server: Peer
) -> None:
    limited = pointed_at(
        settings, server.url, makini_per_minute=600, makini_entities=("eam/assets",)
    )
    async with Runtime.open(limited) as other:
        async with other.store.read() as session:
            [identifier] = await session.scalars(select(col(Connection.id)))
        await record_call(other, await other.app("default"), identifier, Call(429, utcnow()))
        server.seen.clear()
        with pytest.raises((TimeoutError, MakiniError)):
            await _status_within(other, 0.5)
        assert server.seen == []


async def _status_within(rt: Runtime, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await rt.makini(await rt.app("default")).status("t", connection="k1")
