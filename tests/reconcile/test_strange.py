"""Answers no system should give: what can be read of them is in the index, and nothing breaks."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Record, Watermark
from tests.makini.peer import Peer, PeerServer
from tests.reconcile.conftest import adopt, feed, pointed_at, run

ASSETS = "/api/eam/assets"


@pytest.fixture(scope="module")
def server() -> Iterator[Peer]:
    """A Makini that answers what it is told to."""
    one = PeerServer()
    yield one.start()
    one.stop()


@pytest.fixture
async def rt(settings: Settings, store: Store, server: Peer) -> AsyncIterator[Runtime]:
    """A runtime of one connection with assets only."""
    server.reset()
    server.answer(
        "GET",
        "/api/system/connections",
        {"data": [{"key": "k1", "name": "Acme · SAP ECC", "status": "Active"}]},
    )
    server.answer("POST", "/api/system/connections/k1/token", {"token": "t", "expires_in": 3600})
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
        return {row.key: row.body for row in rows}


def pages(*records: list[Any]) -> Any:
    """Answers page by page."""

    def answer(request: Request) -> Response:
        number = int(request.query_params.get("page", "1"))
        found = records[number - 1]
        meta = {"current_page": number, "last_page": len(records)}
        return Response(json.dumps({"data": found, "meta": meta}), media_type="application/json")

    return answer


def asset(key: Any, minute: int = 0, **fields: Any) -> dict[str, Any]:
    """A record changed at that minute."""
    return {"key": key, "updatedAt": f"2026-03-02T08:{minute:02d}:00Z", **fields}


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
