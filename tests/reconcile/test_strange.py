"""Answers no system should give: what can be read of them is in the index, and nothing breaks."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.bodies import open_body
from linekeeper.store.tables import Record, Watermark
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, asset, server, with_one_connection
from tests.reconcile.conftest import adopt, feed, pointed_at, run

__all__ = ["server"]


@pytest.fixture
async def rt(settings: Settings, store: Store, server: Peer) -> AsyncIterator[Runtime]:
    """A runtime of one connection with assets only."""
    with_one_connection(server)
    managed = pointed_at(
        settings, server.url, makini_entities=("eam/assets",), makini_bodies=("eam/assets",)
    )
    async with Runtime.open(managed) as opened:
        await adopt(opened)
        yield opened


async def keys(rt: Runtime) -> dict[str, Any]:
    """The live index: key and body."""
    async with rt.store.read() as session:
        rows = await session.scalars(select(Record).where(col(Record.deleted_at).is_(None)))
        return {row.key: open_body(rt.store.cipher, row.body) for row in rows}


def pages(*records: list[Any]) -> Any:
    """Answers page by page."""

    def answer(request: Request) -> Response:
        number = int(request.query_params.get("page", "1"))
        found = records[number - 1]
        meta = {"current_page": number, "last_page": len(records)}
        return Response(json.dumps({"data": found, "meta": meta}), media_type="application/json")

    return answer


async def test_a_key_that_comes_on_two_pages_is_one_record_and_the_newer_counts(
    rt: Runtime, server: Peer
) -> None:
    server.answer(
        "GET",
        ASSETS,
        pages([asset("1", 5, name="new"), asset("2")], [asset("1", 1, name="old"), asset("3")]),
    )
    done = await run(rt)
    assert not done.failures
    found = await keys(rt)
    assert set(found) == {"1", "2", "3"}
    assert '"new"' in found["1"]


async def test_keys_of_more_digits_than_a_number_holds_stay_apart(
    rt: Runtime, server: Peer
) -> None:
    long = [90000000000000000000, 90000000000000000001, 123456789012345678901234567890]
    server.answer("GET", ASSETS, pages([asset(key, name=f"n{key % 7}") for key in long]))
    done = await run(rt)
    assert not done.failures
    found = await keys(rt)
    assert set(found) == {str(key) for key in long}
    assert all(f"n{int(key) % 7}" in body for key, body in found.items())


async def test_nul_lone_surrogates_and_records_that_are_none(rt: Runtime, server: Peer) -> None:
    records = [
        asset("nul\0", name="a\0b"),
        asset("lone\ud800", name="\udfff"),
        asset(17),
        asset("deep", value=json.loads("[" * 400 + "]" * 400)),
        {"name": "no key"},
        asset(""),
        asset(None),
        asset(True),
    ]
    server.answer("GET", ASSETS, pages(records))
    done = await run(rt)
    assert not done.failures
    assert len(await keys(rt)) == 4
    assert len((await run(rt, full=True)).failures) == 0
    assert await feed(rt) == []


NO_TIMES = (
    None, "", "yesterday", 0, -5, 10**30, [], {}, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
)  # fmt: skip


async def test_times_that_are_none_leave_the_watermark_sound(rt: Runtime, server: Peer) -> None:
    records = [{"key": f"k{n}", "updatedAt": time} for n, time in enumerate(NO_TIMES)]
    server.answer("GET", ASSETS, pages(records))
    assert not (await run(rt)).failures
    server.answer("GET", ASSETS, pages([{**record, "name": "changed"} for record in records]))
    assert not (await run(rt)).failures
    assert [change.op for change in await feed(rt)] == ["updated"] * len(NO_TIMES)
    async with rt.store.read() as session:
        [mark] = await session.scalars(select(Watermark))
    assert mark.position is None


async def test_a_listing_that_is_no_listing_fails_or_is_empty_and_deletes_nothing(
    rt: Runtime, server: Peer
) -> None:
    server.answer("GET", ASSETS, pages([asset("1"), asset("2"), asset("3")]))
    await run(rt)
    for body in ([], "text", {"data": "none"}, {"data": [1, "two", None]}, None):
        server.answer("GET", ASSETS, lambda _, body=body: JSONResponse(body))
        for _ in range(3):
            await run(rt, full=True)
        assert set(await keys(rt)) == {"1", "2", "3"}, body


@pytest.mark.parametrize(("status", "first"), [(400, False), (404, True), (410, True)])
async def test_a_loop_broken_by_a_change_begins_again_at_its_first_cursor(
    rt: Runtime, server: Peer, status: int, first: bool
) -> None:
    if not first:
        server.answer("GET", ASSETS, pages([asset("0")]))
        await run(rt)
    server.seen.clear()
    broken = 0

    def answer(request: Request) -> Response:
        nonlocal broken
        if "cursor" not in request.query_params:
            return JSONResponse({"data": [asset("1", 1 + broken)], "next_cursor": f"c{broken}"})
        if not broken:
            broken += 1
            return JSONResponse({"code": "MUTATION_DURING_PAGINATION"}, status)
        return JSONResponse({"data": [asset("2", 4)]})

    server.answer("GET", ASSETS, answer)
    done = await run(rt)
    assert not done.failures
    assert {"1", "2"} <= set(await keys(rt))
    cursors = [seen.parameters.get("cursor") for seen in server.asked(ASSETS)]
    assert cursors == [None, "c0", None, "c1"]
    filters = {seen.parameters.get("filter[updatedAt:gteq]") for seen in server.asked(ASSETS)}
    assert len(filters) == 1  # it was not taken for a refusal of the filter
    async with rt.store.read() as session:
        [mark] = await session.scalars(select(Watermark))
    assert mark.offered
    assert mark.filtered


async def test_a_loop_that_breaks_every_time_fails_and_moves_nothing(
    rt: Runtime, server: Peer
) -> None:
    server.answer("GET", ASSETS, pages([asset("0")]))
    await run(rt)

    def answer(request: Request) -> Response:
        if "cursor" in request.query_params:
            return JSONResponse({"code": "MUTATION_DURING_PAGINATION"}, 400)
        return JSONResponse({"data": [asset("1", 5)], "next_cursor": "c"})

    server.answer("GET", ASSETS, answer)
    [failure] = (await run(rt)).failures
    assert "was refused" in failure.message
    async with rt.store.read() as session:
        [mark] = await session.scalars(select(Watermark))
    assert mark.position is not None
    assert mark.position.minute == 0
    server.answer("GET", ASSETS, pages([asset("1", 5)]))
    assert not (await run(rt)).failures
    assert set(await keys(rt)) == {"0", "1"}
