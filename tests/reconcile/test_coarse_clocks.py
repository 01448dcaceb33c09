"""A source whose times are as coarse as a day loses no change between two full listings."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlmodel import select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Watermark
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, rt, server
from tests.reconcile.conftest import feed, run

__all__ = ["rt", "server"]
FILTER = "filter[updatedAt:gteq]"


class Source:
    """Assets with times rounded down to a grain; it heeds the time filter."""

    def __init__(self, grain: timedelta, zone_hours: int) -> None:
        self.grain = grain
        self.zone = timedelta(hours=zone_hours)
        self.records: dict[str, dict[str, Any]] = {}

    def put(self, key: str, at: datetime, **fields: Any) -> None:
        local = at + self.zone
        rounded = local - (local - datetime(2020, 1, 1, tzinfo=UTC)) % self.grain - self.zone
        self.records[key] = {"key": key, "updatedAt": rounded.isoformat(), **fields}

    def answer(self, request: Request) -> Response:
        found = list(self.records.values())
        since = request.query_params.get(FILTER)
        if since is not None:
            moment = datetime.fromisoformat(since)
            found = [
                record
                for record in found
                if "updatedAt" in record and datetime.fromisoformat(record["updatedAt"]) >= moment
            ]
        return JSONResponse({"data": found, "meta": {"last_page": 1, "total": len(found)}})


async def mark(rt: Runtime) -> Watermark:
    async with rt.store.read() as session:
        return (await session.scalars(select(Watermark))).one()


async def quiet(rt: Runtime) -> None:
    """Twenty quiet minutes pass, and a run in them."""
    for _ in range(2):
        async with rt.store.write() as session:
            held = (await session.scalars(select(Watermark))).one()
            assert held.moved_at is not None
            held.moved_at -= timedelta(minutes=20)
            session.add(held)
        await run(rt)


@pytest.mark.parametrize(
    ("grain", "zone_hours"),
    [(timedelta(days=1), 0), (timedelta(days=1), -5), (timedelta(hours=1), 0)],
)
async def test_a_second_change_on_the_same_day_is_found_after_a_quiet_time(
    rt: Runtime, server: Peer, grain: timedelta, zone_hours: int
) -> None:
    source, now = Source(grain, zone_hours), utcnow()
    server.answer("GET", ASSETS, source.answer)
    for day in range(9):
        source.put(f"a{day}", now - timedelta(days=day, hours=day))
    await run(rt)
    assert (await mark(rt)).grain_seconds == grain.total_seconds()
    source.put("a5", now, name="first change")
    await run(rt)
    await quiet(rt)
    asked = [seen.parameters.get(FILTER) for seen in server.asked(ASSETS)]
    source.put("a6", now, name="second change")
    source.put("a5", now, name="third change")
    done = await run(rt)
    assert sorted(change.key for change in await feed(rt)) == ["a5", "a5", "a6"]
    assert (done.counts.missed, done.counts.mismatched) == (2, 0)
    assert asked[-1] is not None  # it was asked for changes only


async def test_a_change_of_yesterday_that_shows_a_little_late_is_found(
    rt: Runtime, server: Peer
) -> None:
    source = Source(timedelta(days=1), 0)
    midnight = utcnow().replace(hour=0, minute=0, second=0, microsecond=0)
    server.answer("GET", ASSETS, source.answer)
    for day in range(9):
        source.put(f"a{day}", midnight - timedelta(days=day))
    await run(rt)
    source.put("late", midnight - timedelta(minutes=1))
    await run(rt)
    assert [change.key for change in await feed(rt)] == ["late"]


async def test_the_position_is_always_asked_for_again_also_with_a_fine_clock(
    rt: Runtime, server: Peer
) -> None:
    source, now = Source(timedelta(microseconds=1), 0), utcnow()
    server.answer("GET", ASSETS, source.answer)
    source.put("a", now - timedelta(hours=3))
    await run(rt)
    await quiet(rt)
    source.put("b", now - timedelta(hours=3))
    await run(rt)
    assert [change.key for change in await feed(rt)] == ["b"]


async def test_a_source_that_dates_nothing_any_more_is_listed_whole_from_then_on(
    rt: Runtime, server: Peer
) -> None:
    source = Source(timedelta(seconds=1), 0)
    server.answer("GET", ASSETS, source.answer)
    for number in range(5):
        source.put(f"00{number}", utcnow() - timedelta(hours=number), name="before")
    await run(rt)
    for record in source.records.values():
        del record["updatedAt"]
    await run(rt, full=True)
    before = len(await feed(rt))
    source.records["003"]["name"] = "after"
    await run(rt)
    assert [(change.key, change.op) for change in (await feed(rt))[before:]] == [("003", "updated")]
    source.put("004", utcnow(), name="dated again")
    await run(rt)
    assert (await mark(rt)).position is not None
