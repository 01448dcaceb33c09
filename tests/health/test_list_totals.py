"""A list is compared with its own total: pages overlap, are shorter than asked for, or stop."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.access.listing import listed_for
from linekeeper.clock import utcnow
from linekeeper.customers.adopt import Adoption
from linekeeper.makini import MakiniError
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Incident
from linekeeper.sweep.sweep import take_list
from tests.makini.peer import CLIENT_SECRET, Peer, PeerServer

LIST = "/api/system/connections"
Shown = Callable[[int, int], tuple[Sequence[str], int]]
"""What page `n` of the `r`th reading shows: keys, and the total."""


@pytest.fixture(scope="module")
def server() -> Iterator[Peer]:
    serving = PeerServer()
    yield serving.start()
    serving.stop()


@pytest.fixture
async def rt(settings: Settings, store: Store, server: Peer) -> AsyncIterator[Runtime]:
    """A runtime that watches a Makini which lists what a test tells it to."""
    server.reset()
    watched = settings.model_copy(
        update={
            "makini_api_url": server.url,
            "makini_client_id": "app",
            "makini_client_secret": SecretStr(CLIENT_SECRET),
            "makini_per_minute": 0,
        }
    )
    async with Runtime.open(watched) as runtime:
        yield runtime


def shows(server: Peer, page: Shown, **meta: Any) -> None:
    """Answer the list with `page`, saying a total and no last page."""
    readings = 0

    def answer(request: Request) -> Response:
        nonlocal readings
        number = int(request.query_params["page"])
        readings += number == 1
        keys, total = page(number, readings)
        entries = [
            {"key": key, "name": f"{key} - SAP ECC", "status": "Active", "integration_name": "SAP"}
            for key in keys
        ]
        return JSONResponse({"data": entries, "meta": {"total": total, **meta}})

    server.answer("GET", LIST, answer)


def portions(keys: Sequence[str], size: int, total: int | None = None) -> Shown:
    """Pages of `size`, each reading alike."""
    return lambda number, _: (keys[(number - 1) * size : number * size], total or len(keys))


def keys(count: int) -> list[str]:
    return [f"k{number:03}" for number in range(count)]


async def taken(rt: Runtime, *, accept: bool = False) -> Adoption:
    return await take_list(rt, await rt.app("default"), now=utcnow(), accept_missing=accept)


async def known(rt: Runtime, setup: str = "live") -> list[str]:
    async with rt.store.read() as session:
        rows = await session.scalars(select(Connection))
        return sorted(connection.makini_key for connection in rows if connection.setup == setup)


async def open_kinds(rt: Runtime) -> list[str]:
    async with rt.store.read() as session:
        rows = await session.scalars(select(Incident))
        return [incident.kind for incident in rows if incident.resolved_at is None]


async def test_pages_shorter_than_asked_for_are_read_up_to_the_total(
    rt: Runtime, server: Peer
) -> None:
    shows(server, portions(keys(120), 50))  # 100 a page were asked for
    assert (await taken(rt)).truncated == ""
    assert await known(rt) == keys(120)


async def test_what_overlapping_pages_overlooked_is_found_by_reading_again(
    rt: Runtime, server: Peer
) -> None:
    everything = keys(9)

    def page(number: int, reading: int) -> tuple[Sequence[str], int]:
        if reading > 1:
            return portions(everything, 3)(number, reading)
        shifted = [*everything[:3], *everything[2:8]]  # one was inserted: the third comes twice
        return shifted[(number - 1) * 3 : number * 3], 9

    shows(server, page)
    adoption = await taken(rt)
    assert (adoption.truncated, len(adoption.ids)) == ("", 9)
    assert (len(adoption.new), adoption.known) == (9, 0)
    assert await known(rt) == everything


async def test_a_list_that_breaks_off_is_read_again_from_its_first_page(
    rt: Runtime, server: Peer
) -> None:
    """A cursor had ended: at 60 calls a minute, shared with others, forty pages take minutes."""
    readings, refusals = 0, 1

    def answer(request: Request) -> Response:
        nonlocal readings
        cursor = int(request.query_params.get("cursor", "0"))
        readings += not cursor
        if cursor == 2 and readings <= refusals:
            return JSONResponse({"code": "INVALID_CURSOR", "message": "cursor expired"}, 400)
        entries = [
            {"key": key, "name": f"{key} - SAP", "status": "Active", "integration_name": "SAP"}
            for key in keys(9)[cursor * 3 : cursor * 3 + 3]
        ]
        return JSONResponse(
            {"data": entries, "next_cursor": str(cursor + 1) if cursor < 2 else None}
        )

    server.answer("GET", LIST, answer)
    adoption = await taken(rt)
    assert (readings, len(adoption.new), adoption.known) == (2, 9, 0)
    assert await known(rt) == keys(9)
    assert await open_kinds(rt) == []
    readings, refusals = 0, 99
    assert "truncated: page 3 was refused each time and 3 of 9 known" in (await taken(rt)).truncated
    assert readings == 3
    assert await open_kinds(rt) == ["list_truncated"]
    server.answer("GET", LIST, lambda _: JSONResponse({"message": "no"}, 400))
    with pytest.raises(MakiniError):
        await taken(rt)
    assert await known(rt) == keys(9)


async def test_a_list_whose_total_is_never_reached_proves_nothing_gone(
    rt: Runtime, server: Peer
) -> None:
    shows(server, portions(keys(10), 100))
    await taken(rt)
    shows(server, portions(keys(8), 100, total=10))
    for _ in range(3):
        assert (await taken(rt)).truncated == (
            "The connection list looks truncated: 8 of the 10 connections it counts were listed "
            "and 2 of 10 known connections are missing. Nothing was changed."
        )
    assert await known(rt) == keys(10)
    assert await open_kinds(rt) == ["list_truncated"]
    shows(server, portions(keys(10), 100))
    await taken(rt)
    assert await open_kinds(rt) == []


async def test_a_total_that_counts_otherwise_is_accepted_once(rt: Runtime, server: Peer) -> None:
    shows(server, portions(keys(6), 100, total=8))
    assert "6 of the 8 connections it counts" in (await taken(rt)).truncated
    await taken(rt, accept=True)
    assert (await taken(rt)).truncated == ""
    assert await open_kinds(rt) == []
    shows(server, portions(keys(4), 100, total=8))
    assert "4 of the 8 connections it counts" in (await taken(rt)).truncated
    assert await known(rt) == keys(6)


async def test_two_entries_of_one_key_are_one_connection_and_their_total_is_not_reached(
    rt: Runtime, server: Peer
) -> None:
    shows(server, portions(["a", "b", "b"], 100, total=3))
    assert "2 of the 3 connections it counts" in (await taken(rt)).truncated
    assert await known(rt) == ["a", "b"]


async def test_a_list_that_says_no_total_is_read_once(rt: Runtime, server: Peer) -> None:
    server.answer("GET", LIST, {"data": [{"key": key, "status": "Active"} for key in keys(4)]})
    assert (await taken(rt)).truncated == ""
    pages = [dict(seen.query)["page"] for seen in server.asked(LIST)]
    assert pages.count("1") == 1, pages


@pytest.mark.parametrize("entry", [None, "k003", {"name": "k003 - SAP ECC"}])
async def test_an_entry_without_a_key_is_each_of_the_missing_ones_and_blinds_nobody_to_the_rest(
    rt: Runtime, server: Peer, entry: Any
) -> None:
    """It may be the very connection that is missing: it isn't gone, and what is new is found."""

    def lists(*entries: Any) -> None:
        server.answer("GET", LIST, {"data": list(entries), "meta": {"total": len(entries)}})

    named = [{"key": key, "name": f"{key} - SAP ECC", "status": "Active"} for key in keys(5)]
    lists(*named)
    await taken(rt)
    new = {"key": "new", "name": "New - SAP ECC", "status": "Active"}
    lists(*named[:3], entry, named[4], new)
    for hours in (0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30):
        adoption = await take_list(
            rt, await rt.app("default"), now=utcnow() + timedelta(hours=hours)
        )
        assert "an entry has no key" in adoption.truncated
    assert await known(rt) == [*keys(5), "new"]
    assert await open_kinds(rt) == ["list_truncated"]
    lists(*named, new, entry)
    assert (await taken(rt)).truncated == "", "nothing is missing: it is something else"
    assert await open_kinds(rt) == []


@pytest.mark.parametrize("fault", ["loops", "empty"])
async def test_a_list_without_an_end_is_used_as_far_as_it_goes_and_stops_nothing_else(
    rt: Runtime, server: Peer, fault: str
) -> None:
    shows(server, portions(keys(9), 100))
    await taken(rt)

    def answer(request: Request) -> Response:
        number = int(request.query_params.get("cursor") or request.query_params.get("page") or 1)
        listed = [*keys(6), "new"][(number - 1) * 4 : number * 4]
        entries = [
            {"key": key, "name": f"{key} - SAP", "status": "Active", "integration_name": "SAP"}
            for key in listed
        ]
        end = {"next_cursor": "2"} if fault == "loops" else {"meta": {"last_page": 9}}
        return JSONResponse({"data": entries, **end})

    server.answer("GET", LIST, answer)
    for _ in range(6):  # an app's circuit opens at five failures
        truncated = (await taken(rt)).truncated
    why = {"loops": "names a next page that it had named before", "empty": "page 3 of 9 is empty"}
    assert why[fault] in truncated
    assert await known(rt) == [*keys(9), "new"]
    assert await open_kinds(rt) == ["list_truncated"]
    shows(server, portions([*keys(9), "new"], 100))
    await taken(rt)
    assert await open_kinds(rt) == []


async def test_a_login_is_told_by_a_list_without_an_end_where_it_names_its_connection(
    rt: Runtime, server: Peer
) -> None:
    listed = {"data": [{"key": "a", "id": "1", "status": "Active"}], "next_cursor": "again"}
    server.answer("GET", LIST, listed)
    makini = rt.makini(await rt.app("default"), for_login=True)
    found = await listed_for(rt, makini, "default", "1", since=utcnow())
    assert [entry.key for entry in found] == ["a"]
    with pytest.raises(MakiniError, match="repeats page 2"):
        await listed_for(rt, makini, "default", "2", since=utcnow())
