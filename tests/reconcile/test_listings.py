"""Nothing that lives is deleted, whatever a source's listings leave out."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.clock import utcnow
from linekeeper.notify.view import FROM_A_PAGE, Links
from linekeeper.reconcile.decisions import decide_deletions
from linekeeper.reconcile.outage import note_outages
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Deletion, Incident, Outage, Record, Watermark
from linekeeper.views.trust_page import trust_markdown
from linekeeper.views.trust_queries import trust_report
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, rt, server
from tests.reconcile.conftest import away, feed, run

__all__ = ["rt", "server"]
SORT = "sort[key]"


def assets(number: int, *, days_apart: float = 30.0) -> list[dict[str, Any]]:
    """The first is the newest."""
    now = utcnow() - timedelta(hours=1)
    return [
        {"key": f"a{n:03d}", "updatedAt": (now - timedelta(days=n * days_apart)).isoformat()}
        for n in range(number)
    ]


def page(records: Sequence[dict[str, Any]], number: int, last: int, total: int) -> Response:
    meta = {"current_page": number, "last_page": last, "total": total}
    return JSONResponse({"data": list(records), "meta": meta})


def whole(records: Sequence[dict[str, Any]], total: int | None = None) -> Any:
    """One page with these; `since` is heeded."""

    def answer(request: Request) -> Response:
        since = request.query_params.get("filter[updatedAt:gteq]")
        if since is not None:
            found = [r for r in records if r["updatedAt"] >= since]
            return page(found, 1, 1, len(found))
        return page(records, 1, 1, len(records) if total is None else total)

    return answer


async def live(rt: Runtime) -> set[str]:
    async with rt.store.read() as session:
        return set(
            await session.scalars(select(Record.key).where(col(Record.deleted_at).is_(None)))
        )


async def mark(rt: Runtime) -> Watermark:
    async with rt.store.read() as session:
        return (await session.scalars(select(Watermark))).one()


async def open_incidents(rt: Runtime) -> list[str]:
    async with rt.store.read() as session:
        return list(
            await session.scalars(
                select(col(Incident.kind)).where(col(Incident.resolved_at).is_(None))
            )
        )


async def artifact(rt: Runtime) -> str:
    return trust_markdown(await trust_report(rt.store, now=utcnow()), Links(FROM_A_PAGE))


@pytest.mark.parametrize("sorts", ["ignored", "refused"])
async def test_overlapping_pages_delete_nothing_and_are_said_to_be_inconsistent(
    rt: Runtime, server: Peer, sorts: str
) -> None:
    everything = assets(20)
    server.answer("GET", ASSETS, whole(everything))
    await run(rt)

    def overlapping(request: Request) -> Response:
        if sorts == "refused" and SORT in request.query_params:
            return JSONResponse({"message": "no such sort"}, 400)
        first = request.query_params.get("page", "1") == "1"
        return page(everything[:10] if first else everything[8:18], 1 if first else 2, 2, 20)

    server.answer("GET", ASSETS, overlapping)
    for _ in range(4):
        assert not (await run(rt, full=True)).failures
    assert await live(rt) == {record["key"] for record in everything}
    assert await feed(rt) == []
    held = await mark(rt)
    assert (held.listed, held.source_total) == (18, 20)
    assert held.inconsistent == 4
    assert await open_incidents(rt) == ["entity_inconsistent"]
    assert "18 of 20 records are listed" in await artifact(rt)
    server.answer("GET", ASSETS, whole(everything))
    await run(rt, full=True)
    assert await open_incidents(rt) == []
    assert (await mark(rt)).inconsistent == 0


async def test_an_empty_page_that_is_said_to_be_the_last_of_several_deletes_nothing(
    rt: Runtime, server: Peer
) -> None:
    """Were it the last one there would be a record on it: the one before would be the last."""
    everything = assets(21, days_apart=1)[::-1]
    lost: list[str] = []

    def paged(request: Request) -> Response:
        number = int(request.query_params.get("page", "1"))
        shown = everything[(number - 1) * 20 : number * 20]
        records = [] if number == 2 and lost else shown
        return JSONResponse({"data": records, "meta": {"current_page": number, "last_page": 2}})

    server.answer("GET", ASSETS, paged)
    await run(rt)
    lost.append("the second page")
    for _ in range(4):
        await run(rt, full=True)
    assert len(await live(rt)) == 21
    assert await feed(rt) == []
    assert await open_incidents(rt) == ["entity_failing"]
    lost.clear()
    await run(rt, full=True)
    assert await open_incidents(rt) == []


async def test_a_page_cap_below_the_total_is_said_and_does_not_list_everything_at_every_run(
    rt: Runtime, server: Peer
) -> None:
    everything = assets(250, days_apart=1)
    server.answer("GET", ASSETS, whole(everything[:50], total=250))
    for _ in range(3):
        await run(rt)
    assert len(await live(rt)) == 50
    assert (await mark(rt)).inconsistent > 0
    assert "50 of 250 records are listed" in await artifact(rt)
    server.seen.clear()
    await run(rt, everything=False)
    assert not [s for s in server.asked(ASSETS) if "filter[updatedAt:gteq]" not in s.parameters]


async def test_a_record_that_slips_in_one_order_is_found_in_the_reversed_one(
    rt: Runtime, server: Peer
) -> None:
    everything = assets(20)

    def slipping(request: Request) -> Response:
        number = int(request.query_params.get("page", "1"))
        if request.query_params.get(SORT) == "1":
            ordered = everything[::-1]
            return page(ordered[(number - 1) * 10 : number * 10], number, 2, 20)
        # The eleventh moved to the first page after that had been read.
        return page(everything[:10] if number == 1 else everything[11:], number, 2, 20)

    server.answer("GET", ASSETS, slipping)
    await run(rt)
    assert len(await live(rt)) == 20
    for _ in range(3):
        await run(rt, full=True)
    assert len(await live(rt)) == 20
    held = await mark(rt)
    assert (held.listed, held.source_total, held.inconsistent) == (20, 20, 0)
    assert await open_incidents(rt) == []


@pytest.mark.parametrize("number", [1, 2, 5])
async def test_everything_of_an_entity_is_never_deleted_unasked(
    rt: Runtime, server: Peer, number: int
) -> None:
    """B9: a listing proves only so much gone."""
    everything = assets(number)
    server.answer("GET", ASSETS, whole(everything))
    await run(rt)
    server.answer("GET", ASSETS, whole([]))
    for _ in range(4):
        await run(rt, full=True)
    assert len(await live(rt)) == number
    assert await feed(rt) == []
    assert await open_incidents(rt) == ["deletions_held"]
    async with rt.store.read() as session:
        deletion = (await session.scalars(select(Deletion))).one()
    await decide_deletions(rt, deletion.id, "accept", by="Ada", now=utcnow())
    assert await live(rt) == set()


async def test_what_an_outage_of_ours_hid_is_told_without_what_a_person_deleted_before(
    rt: Runtime, server: Peer
) -> None:
    server.answer("GET", ASSETS, whole(assets(5)))
    await run(rt)
    server.answer("GET", ASSETS, whole([]))
    for _ in range(2):
        await run(rt, full=True)
    async with rt.store.read() as session:
        deletion = (await session.scalars(select(Deletion))).one()
    await decide_deletions(rt, deletion.id, "accept", by="Ada", now=utcnow())
    await away(rt.store, 3)
    await note_outages(rt.store, now=utcnow())
    meanwhile = (utcnow() - timedelta(hours=2)).isoformat()
    server.answer("GET", ASSETS, whole([{"key": key, "updatedAt": meanwhile} for key in "xy"]))
    await run(rt)
    async with rt.store.read() as session:
        outage = (await session.scalars(select(Outage))).one()
    assert outage.detail["recovered"] == 2


@pytest.mark.parametrize(("left", "days_apart"), [(97, 30.0), (98, 0.5), (10, 9.0)])
async def test_a_history_window_deletes_nothing_older_and_is_stated(
    rt: Runtime, server: Peer, left: int, days_apart: float
) -> None:
    everything = assets(100, days_apart=days_apart)
    server.answer("GET", ASSETS, whole(everything))
    await run(rt)
    server.answer("GET", ASSETS, whole(everything[:left]))
    for _ in range(3):
        await run(rt, full=True)
    assert len(await live(rt)) == 100
    assert await open_incidents(rt) == []
    since = (await mark(rt)).window_since
    assert since is not None
    assert since.isoformat()[:16] == everything[left - 1]["updatedAt"][:16]
    assert f"only what changed since {since:%Y-%m-%d} is listed" in await artifact(rt)

    # What goes inside the window is a deletion like any other.
    server.answer("GET", ASSETS, whole([r for r in everything[:left] if r["key"] != "a003"]))
    for _ in range(2):
        await run(rt, full=True)
    assert [(change.op, change.key) for change in await feed(rt)] == [("deleted", "a003")]

    server.answer("GET", ASSETS, whole([r for r in everything if r["key"] != "a003"]))
    await run(rt, full=True)
    assert (await mark(rt)).window_since is None


@pytest.mark.parametrize(("age", "gone"), [(100, []), (10, ["old"])])
async def test_what_a_few_new_records_leave_of_a_window_deletes_nothing_that_a_window_would_hide(
    rt: Runtime, server: Peer, age: int, gone: list[str]
) -> None:
    """A source of three sites, of which the window of 30 days holds two: they are a week old."""
    now = utcnow()
    young, old = (
        [{"key": key, "updatedAt": (now - timedelta(days=days)).isoformat()} for key, days in of]
        for of in ((("new", 2), ("newer", 6)), (("old", age),))
    )
    server.answer("GET", ASSETS, whole(young + old))
    await run(rt)
    server.answer("GET", ASSETS, whole(young))
    for _ in range(3):
        await run(rt, full=True)
    assert [change.key for change in await feed(rt)] == gone


@pytest.mark.parametrize("days_apart", [30.0, 0.1])
async def test_the_oldest_record_of_a_source_that_reaches_far_back_or_is_young_can_go(
    rt: Runtime, server: Peer, days_apart: float
) -> None:
    everything = assets(30, days_apart=days_apart)
    server.answer("GET", ASSETS, whole(everything))
    await run(rt)
    server.answer("GET", ASSETS, whole(everything[:-1]))
    for _ in range(2):
        await run(rt, full=True)
    assert [(change.op, change.key) for change in await feed(rt)] == [("deleted", "a029")]


async def test_records_without_a_key_count_in_the_total(rt: Runtime, server: Peer) -> None:
    everything = [*assets(3), {"name": "no key"}, {"name": "none either"}]
    server.answer("GET", ASSETS, lambda _: page(everything, 1, 1, 5))
    await run(rt)
    assert len(await live(rt)) == 3
    assert (await mark(rt)).inconsistent == 0


@pytest.mark.parametrize("total", [20, None])
async def test_a_record_that_comes_without_its_key_is_not_deleted_and_one_that_went_is_later(
    rt: Runtime, server: Peer, total: int | None
) -> None:
    everything = assets(20)
    server.answer("GET", ASSETS, whole(everything))
    await run(rt)
    bare = [{**row, "key": None} if row["key"] == "a007" else row for row in everything]

    def without_its_key(_: Request) -> Response:
        meta = {"current_page": 1, "last_page": 1} | ({"total": total} if total else {})
        return JSONResponse({"data": bare, "meta": meta})

    server.answer("GET", ASSETS, without_its_key)
    for _ in range(3):
        await run(rt, full=True)
    assert await feed(rt) == []
    assert len(await live(rt)) == 20
    assert await open_incidents(rt) == ["entity_inconsistent"]
    server.answer("GET", ASSETS, whole([row for row in everything if row["key"] != "a007"]))
    for _ in range(2):
        await run(rt, full=True)
    assert [(change.op, change.key) for change in await feed(rt)] == [("deleted", "a007")]
    assert await open_incidents(rt) == []
