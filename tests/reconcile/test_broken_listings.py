"""A list that ends before its end: what came of it is used, and nothing is concluded from it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.clock import utcnow
from linekeeper.reconcile.policy import POLICY
from linekeeper.runtime import Runtime
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, rt, server
from tests.reconcile.conftest import feed, run
from tests.reconcile.test_listings import SORT, artifact, assets, live, mark, open_incidents, whole

__all__ = ["rt", "server"]
EVERYTHING = assets(50)
Answer = Callable[[Request], Response]


def slice_of(request: Request, records: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """Page `number` of ten, in the order asked for."""
    ordered = records[::-1] if request.query_params.get(SORT) == "1" else records
    return ordered[(number - 1) * 10 : number * 10]


def looping(request: Request) -> Response:
    """After the second page its cursor leads back to the second."""
    number = int(request.query_params.get("cursor", "1"))
    return JSONResponse({"data": slice_of(request, EVERYTHING, number), "next_cursor": "2"})


def repeating(request: Request) -> Response:
    """From the third page on it gives the second."""
    number = min(int(request.query_params.get("page", "1")), 2)
    meta = {"current_page": number, "last_page": 5}
    return JSONResponse({"data": slice_of(request, EVERYTHING, number), "meta": meta})


def with_a_hole(request: Request) -> Response:
    """The third of five pages is empty; it heeds no order."""
    number = int(request.query_params.get("page", "1"))
    found = [] if number == 3 else EVERYTHING[(number - 1) * 10 : number * 10]
    return JSONResponse({"data": found, "meta": {"last_page": 5, "total": 50}})


def refusing(request: Request) -> Response:
    """It takes back its cursors."""
    if "cursor" in request.query_params:
        return JSONResponse({"message": "the cursor has expired"}, 400)
    return JSONResponse({"data": slice_of(request, EVERYTHING, 1), "next_cursor": "2"})


def failing(request: Request) -> Response:
    """Its third page is a 503, however often it is asked for."""
    number = int(request.query_params.get("page", "1"))
    if number == 3:
        return JSONResponse({"message": "down"}, 503)
    found = EVERYTHING[(number - 1) * 10 : number * 10]
    return JSONResponse({"data": found, "meta": {"last_page": 5, "total": 50}})


def unproved(request: Request) -> Response:
    """All of it, without a total."""
    number = int(request.query_params.get("page", "1"))
    found = EVERYTHING[(number - 1) * 10 : number * 10]
    return JSONResponse({"data": found, "meta": {"current_page": number, "last_page": 5}})


BROKEN = [
    (looping, 20, "it names a next page that it had named before"),
    (repeating, 20, "it gives a page again that it had given before"),
    (with_a_hole, 40, "it leaves pages empty behind which, it says, others follow"),
    (refusing, 10, "it refuses the next page"),
    (failing, 20, "it doesn't answer when asked for the next page"),
]


def changed_only(broken: Answer, changed: list[dict[str, Any]]) -> Answer:
    """`broken`, where everything is asked for; what changed comes whole."""

    def answer(request: Request) -> Response:
        if "filter[updatedAt:gteq]" not in request.query_params:
            return broken(request)
        meta = {"current_page": 1, "last_page": 1, "total": len(changed)}
        return JSONResponse({"data": changed, "meta": meta})

    return answer


@pytest.mark.parametrize("broken", [each for each, *_ in BROKEN])
async def test_a_second_listing_that_breaks_off_ends_where_the_first_had_proved_nothing_yet(
    rt: Runtime, server: Peer, broken: Answer
) -> None:
    """Two listings that agree are needed: the first leaves no time from which on to ask."""
    server.answer("GET", ASSETS, unproved)
    await run(rt)
    assert (await mark(rt)).position is None
    server.answer("GET", ASSETS, broken)
    assert len((await run(rt)).failures) == 1, "what changed breaks off, too"
    assert len(await live(rt)) == 50
    assert await feed(rt) == []


@pytest.mark.parametrize(("broken", "count", "words"), BROKEN)
async def test_a_first_listing_that_breaks_off_fills_the_index_with_what_came(
    rt: Runtime, server: Peer, broken: Answer, count: int, words: str
) -> None:
    server.answer("GET", ASSETS, broken)
    done = await run(rt)
    assert len(await live(rt)) == count
    [failure] = done.failures
    if broken is not failing:  # of which changes can be asked for: the system doesn't answer
        assert failure.message.startswith("What Makini lists is not the whole: ")
        assert "3 times in a row. What came is in the index" in failure.message
    held = await mark(rt)
    assert (held.polled_at, held.full_at) == (None, None)
    assert held.retry_at is not None
    await run(rt)
    assert "entity_failing" in await open_incidents(rt)
    server.answer("GET", ASSETS, whole(EVERYTHING))
    await run(rt)
    assert len(await live(rt)) == 50
    assert await feed(rt) == []
    assert await open_incidents(rt) == []


@pytest.mark.parametrize(("broken", "count", "words"), BROKEN)
async def test_a_whole_listing_that_breaks_off_deletes_nothing_and_what_changes_is_read_as_before(
    rt: Runtime, server: Peer, broken: Answer, count: int, words: str
) -> None:
    server.answer("GET", ASSETS, whole(EVERYTHING))
    await run(rt)
    before = (await mark(rt)).position
    fresh = {"key": "new", "updatedAt": (utcnow() - timedelta(minutes=1)).isoformat()}
    server.answer("GET", ASSETS, changed_only(broken, [fresh]))
    for _ in range(2):
        done = await run(rt, full=True)
        assert not done.failures
        assert done.broken_off == 1
    assert len(await live(rt)) == 51
    assert [(change.op, change.key) for change in await feed(rt)] == [("inserted", "new")]
    held = await mark(rt)
    assert held.failure is None
    assert (held.inconsistent, held.listed) == (2, count)
    assert before is not None
    assert held.position is not None
    assert held.position > before  # what changed was read to its end
    assert await open_incidents(rt) == ["entity_inconsistent"]
    assert words in await artifact(rt)
    # It is not listed at every run, and what changes goes on.
    server.seen.clear()
    await run(rt)
    asked = server.asked(ASSETS)
    assert asked
    assert all("filter[updatedAt:gteq]" in call.parameters for call in asked)
    held = await mark(rt)
    assert held.confirm_at is not None
    assert held.confirm_at - utcnow() > POLICY.inconsistent - timedelta(hours=1)
    server.answer("GET", ASSETS, whole([*EVERYTHING, fresh]))
    await run(rt, full=True)
    assert await open_incidents(rt) == []
    assert (await mark(rt)).broken_off is None


async def test_what_changed_and_comes_in_part_is_used_and_read_again_from_the_same_time(
    rt: Runtime, server: Peer
) -> None:
    old = assets(50)
    server.answer("GET", ASSETS, whole(old))
    await run(rt)
    before = (await mark(rt)).position
    now = utcnow()
    changed = [
        {**row, "updatedAt": (now - timedelta(seconds=100 - n)).isoformat()}
        for n, row in enumerate(old[:30])
    ]

    def loops(request: Request) -> Response:
        number = int(request.query_params.get("cursor", "1"))
        return JSONResponse(
            {"data": changed[(number - 1) * 10 : number * 10], "next_cursor": str(3 - number)}
        )

    server.answer("GET", ASSETS, loops)
    done = await run(rt)
    assert [failure.entity for failure in done.failures] == ["eam/assets"]
    assert {change.key for change in await feed(rt)} == {row["key"] for row in changed[:20]}
    assert (await mark(rt)).position == before
    server.answer("GET", ASSETS, whole(changed))
    assert not (await run(rt)).failures
    assert sorted(change.key for change in await feed(rt)) == [row["key"] for row in changed]


async def test_a_hole_that_the_reversed_order_fills_is_none(rt: Runtime, server: Peer) -> None:
    def holed(request: Request) -> Response:
        number = int(request.query_params.get("page", "1"))
        found = [] if number == 2 else slice_of(request, EVERYTHING, number)
        return JSONResponse({"data": found, "meta": {"last_page": 5, "total": 50}})

    server.answer("GET", ASSETS, holed)
    assert not (await run(rt)).failures
    assert len(await live(rt)) == 50
    for _ in range(2):
        assert not (await run(rt, full=True)).failures
    assert await open_incidents(rt) == []
    assert len(await live(rt)) == 50


async def test_what_comes_in_either_order_beside_a_page_that_fails_is_in_the_index(
    rt: Runtime, server: Peer
) -> None:
    def failing(request: Request) -> Response:
        number = int(request.query_params.get("page", "1"))
        if number == 3:
            return JSONResponse({"message": "down"}, 503)
        found = slice_of(request, EVERYTHING, number)
        return JSONResponse({"data": found, "meta": {"last_page": 5, "total": 50}})

    server.answer("GET", ASSETS, failing)
    done = await run(rt)
    assert done.failures
    assert len(await live(rt)) == 40
    assert await feed(rt) == []


@pytest.mark.parametrize(("broken", "count", "words"), BROKEN)
async def test_what_changes_while_a_first_listing_never_ends_is_no_part_of_it(
    rt: Runtime, server: Peer, broken: Answer, count: int, words: str
) -> None:
    """It is asked for what changed meanwhile; that, and not the rest of the listing, is news."""
    first = EVERYTHING[0]
    server.answer("GET", ASSETS, changed_only(broken, [first, EVERYTHING[-1]]))
    done = await run(rt)
    assert not done.failures
    assert done.broken_off == 1
    assert await feed(rt) == [], "the last record was merely not listed yet"
    held = await mark(rt)
    assert held.full_at is None
    assert held.position is not None
    assert held.polled_at is not None

    now = utcnow().isoformat()
    changed = [{**first, "title": "other", "updatedAt": now}, {"key": "new", "updatedAt": now}]
    server.answer("GET", ASSETS, changed_only(broken, changed))
    server.seen.clear()
    await run(rt)
    asked = server.asked(ASSETS)
    assert asked
    assert all("filter[updatedAt:gteq]" in call.parameters for call in asked), "the rest can wait"
    assert {(change.op, change.key) for change in await feed(rt)} == {
        ("updated", first["key"]),
        ("inserted", "new"),
    }
    assert (await mark(rt)).full_at is None

    # In the end it comes whole, and with it a change that no other listing had.
    last = {**EVERYTHING[1], "title": "at last", "updatedAt": utcnow().isoformat()}
    server.answer("GET", ASSETS, whole([changed[0], last, *EVERYTHING[2:], changed[1]]))
    await run(rt, full=True)
    assert {change.key for change in await feed(rt)} == {first["key"], "new", last["key"]}
    assert len(await live(rt)) == 51
    assert (await mark(rt)).full_at is not None


async def test_where_changes_cannot_be_asked_for_either_what_differs_the_next_time_is_news(
    rt: Runtime, server: Peer
) -> None:
    server.answer("GET", ASSETS, with_a_hole)
    assert (await run(rt)).failures
    first = {**EVERYTHING[0], "title": "other", "updatedAt": utcnow().isoformat()}
    server.answer("GET", ASSETS, whole([first, *EVERYTHING[1:]]))
    await run(rt, full=True)
    assert [(change.op, change.key) for change in await feed(rt)] == [("updated", first["key"])]
