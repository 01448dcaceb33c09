"""What the client asks of Makini, and what it makes of the answers."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.makini import (
    ErrorKind,
    ListedConnection,
    MakiniClient,
    MakiniError,
)
from tests.makini.peer import Peer

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
CONNECTIONS = "/api/system/connections"
ASSETS = "/api/eam/assets"
Connect = Callable[..., MakiniClient]


async def listed(makini: MakiniClient) -> list[ListedConnection]:
    return [
        connection async for page in makini.list_connections() for connection in page.connections
    ]


async def keys_of(makini: MakiniClient, **options: Any) -> list[str]:
    pages = makini.records("t", "eam/assets", connection="acme", **options)
    return [record["key"] async for page in pages for record in page.records]


def numbered(count: int) -> list[dict[str, str]]:
    return [{"key": f"{n:08d}"} for n in range(count)]


def by_page(rows: list[dict[str, str]]) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        size, page = int(request.query_params["per_page"]), int(request.query_params["page"])
        last = max(1, -(-len(rows) // size))
        return JSONResponse(
            {
                "data": rows[(page - 1) * size : page * size],
                "links": {"next": "http://elsewhere.invalid/"},
                "meta": {"current_page": page, "last_page": last, "per_page": size},
            }
        )

    return answer


def by_cursor(rows: list[dict[str, str]]) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        size = int(request.query_params["per_page"])
        start = int(request.query_params.get("cursor", "0"))
        following = str(start + size) if start + size < len(rows) else None
        return JSONResponse({"data": rows[start : start + size], "next_cursor": following})

    return answer


# Listings


@pytest.mark.parametrize("style", ["page", "cursor"])
@pytest.mark.parametrize("count", [0, 1, 4, 5])
async def test_a_listing_is_followed_by_cursor_whatever_was_asked_first(
    peer: Peer, connect: Connect, style: str, count: int
) -> None:
    peer.answer("GET", CONNECTIONS, by_cursor(numbered(count)))
    found = await listed(connect(paging=style, per_page=2))
    assert [one.key for one in found] == [row["key"] for row in numbered(count)]


@pytest.mark.parametrize("count", [0, 1, 4, 5])
async def test_pages_are_counted_and_links_never_followed(
    peer: Peer, connect: Connect, count: int
) -> None:
    peer.answer("GET", CONNECTIONS, by_page(numbered(count)))
    found = await listed(connect(per_page=2))
    assert [one.key for one in found] == [row["key"] for row in numbered(count)]
    assert len(peer.asked(CONNECTIONS)) == max(1, -(-count // 2))


async def test_a_peer_that_counts_pages_though_asked_for_cursors_is_followed_by_page(
    peer: Peer, connect: Connect
) -> None:
    def answer(request: Request) -> Response:
        page = int(request.query_params.get("page", "1"))
        return JSONResponse({"data": [{"key": f"0{page}"}], "meta": {"last_page": "3"}})

    peer.answer("GET", CONNECTIONS, answer)
    assert [one.key for one in await listed(connect(paging="cursor"))] == ["01", "02", "03"]
    assert "page" not in peer.asked(CONNECTIONS)[0].parameters


@pytest.mark.parametrize("beyond", ["empty", "the last page over again", "refused"])
async def test_without_any_word_on_pages_one_after_another_is_asked_for_until_none_is_new(
    peer: Peer, connect: Connect, beyond: str
) -> None:
    pages: dict[str, object] = {"1": numbered(2), "2": [{"key": "last"}]}
    if beyond != "refused":
        pages["3"] = [] if beyond == "empty" else pages["2"]

    def answer(request: Request) -> Response:
        asked = pages.get(request.query_params["page"])
        return (
            JSONResponse({"message": "No such page"}, 404) if asked is None else JSONResponse(asked)
        )

    peer.answer("GET", CONNECTIONS, answer)
    for per_page in (2, 3):
        found = await listed(connect(per_page=per_page))
        assert [one.key for one in found] == ["00000000", "00000001", "last"]


@pytest.mark.parametrize(
    "answer",
    [
        {"data": [{"key": "a"}, {"key": "b"}], "meta": {"last_page": 9}},
        {"data": [{"key": "a"}, {"key": "b"}], "next_cursor": "same"},
        {"data": [], "next_cursor": "same"},
    ],
)
async def test_a_page_that_repeats_ends_the_listing_with_an_error(
    peer: Peer, makini: MakiniClient, answer: object
) -> None:
    peer.answer("GET", CONNECTIONS, answer)
    with pytest.raises(
        MakiniError, match=r"the list repeats page 2|names a next page that it had named before"
    ) as caught:
        await listed(makini)
    assert caught.value.kind is ErrorKind.malformed
    assert len(peer.asked(CONNECTIONS)) == 2


async def test_a_listing_that_breaks_off_is_not_taken_for_the_whole(
    peer: Peer, makini: MakiniClient
) -> None:
    peer.answer("GET", CONNECTIONS, {"data": [], "meta": {"last_page": 3}})
    with pytest.raises(MakiniError, match="page 1 of 3 is empty"):
        await listed(makini)


async def test_an_entry_without_identity_is_left_out(peer: Peer, makini: MakiniClient) -> None:
    peer.answer("GET", CONNECTIONS, {"data": [{"name": "who"}, {"id": 7}, {"key": "0042"}]})
    found = await listed(makini)
    assert [(one.key, one.id) for one in found] == [("7", "7"), ("0042", "")]


async def test_a_list_of_something_else_is_malformed(peer: Peer, makini: MakiniClient) -> None:
    peer.answer("GET", CONNECTIONS, {"data": [{"colour": "red"}]})
    with pytest.raises(MakiniError, match="neither key nor id"):
        await listed(makini)


async def test_a_listed_connection_is_read_whole(peer: Peer, makini: MakiniClient) -> None:
    entry = {
        "key": "0042",
        "id": "c-42",
        "name": "Acme · SAP ECC",
        "email": "it@acme.example",
        "status": "In Progress",
        "integration_name": "sap-ecc",
        "redirect": None,
        "scopes": "*",
        "tags": ["critical", {"name": "emea"}, None],
        "user_metadata": '{"customer": "Acme", "tier": 2}',
        "created_at": "2026-01-01T00:00:00.000000Z",
        "updated_at": "2026-01-02 03:04:05",
        "connected_at": "2026-01-01T01:00:00+01:00",
        "something_new": {"deep": []},
    }
    peer.answer("GET", CONNECTIONS, {"data": [entry]})
    (found,) = await listed(makini)
    assert found == ListedConnection(
        key="0042",
        id="c-42",
        name="Acme · SAP ECC",
        email="it@acme.example",
        status="In Progress",
        provider="sap-ecc",
        tags=("critical", "emea"),
        metadata={"customer": "Acme", "tier": "2"},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        updated_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        connected_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert found.lifecycle == "in_progress"


# The admin token


# Tokens of a connection


async def test_a_connection_is_deleted_by_its_key(peer: Peer, makini: MakiniClient) -> None:
    peer.answer("DELETE", f"{CONNECTIONS}/0042", lambda _: Response(status_code=204))
    await makini.delete_connection("0042")
    assert [seen.method for seen in peer.asked(f"{CONNECTIONS}/0042")] == ["DELETE"]


@pytest.mark.parametrize("key", ["", ".", ".."])
async def test_a_key_that_would_lead_elsewhere_is_refused(
    peer: Peer, makini: MakiniClient, key: str
) -> None:
    with pytest.raises(MakiniError, match="is no key"):
        await makini.delete_connection(key)
    assert peer.seen == []


# Status and records


async def test_a_status_carries_makinis_request_id_and_the_latency(
    peer: Peer, makini: MakiniClient
) -> None:
    body = {
        "data": {
            "id": 42,
            "company_name": "Acme",
            "email": "it@acme.example",
            "provider": "sap-ecc",
            "updated_at": "2026-01-01T00:00:00Z",
            "sync_status": "Full_Done",
            "sync_updated_at": None,
        }
    }
    headers = {"X-Request-Id": "req-5"}
    peer.answer("GET", "/api/integrations/current", lambda _: JSONResponse(body, headers=headers))
    status = await makini.status("t", connection="acme")
    assert (status.id, status.company_name, status.provider) == ("42", "Acme", "sap-ecc")
    assert (status.sync_status, status.sync_updated_at) == ("fulldone", None)
    assert (status.request_id, status.latency > 0) == ("req-5", True)


async def test_a_sync_status_nobody_knows_stays_as_it_came(
    peer: Peer, makini: MakiniClient
) -> None:
    peer.answer("GET", "/api/integrations/current", {"data": {"id": "1", "sync_status": "Fine!"}})
    assert (await makini.status("t", connection="acme")).sync_status == "Fine!"


@pytest.mark.parametrize(
    ("style", "parameter"),
    [("filter", "filter[updatedAt:gteq]"), ("modified_after", "modified_after")],
)
async def test_records_since_a_moment_are_asked_for_in_either_style(
    peer: Peer, connect: Connect, style: str, parameter: str
) -> None:
    peer.answer("GET", ASSETS, by_page(numbered(3)))
    found = await keys_of(connect(since=style, per_page=2), since=NOW)
    assert found == ["00000000", "00000001", "00000002"]
    assert [seen.parameters[parameter] for seen in peer.asked(ASSETS)] == [
        "2026-03-02T08:00:00Z",
        "2026-03-02T08:00:00Z",
    ]


async def test_records_by_key_are_asked_for_in_bunches_without_repeats(
    peer: Peer, makini: MakiniClient
) -> None:
    peer.answer("GET", ASSETS, {"data": []})
    keys = [f"{n:08d}" for n in range(60)]
    assert await keys_of(makini, keys=[*keys, *keys]) == []
    asked = [[v for k, v in seen.query if k == "filter[key]"] for seen in peer.asked(ASSETS)]
    assert [len(bunch) for bunch in asked] == [50, 10]
    assert asked[0] + asked[1] == keys


async def test_no_keys_ask_nothing(peer: Peer, makini: MakiniClient) -> None:
    assert await keys_of(makini, keys=[]) == []
    assert peer.seen == []


async def test_a_refused_filter_is_told_from_a_missing_entity(
    peer: Peer, makini: MakiniClient
) -> None:
    with pytest.raises(MakiniError) as missing:
        await keys_of(makini)
    peer.answer("GET", ASSETS, lambda _: JSONResponse({"message": "Unknown filter."}, 422))
    with pytest.raises(MakiniError) as refused:
        await keys_of(makini, since=NOW)
    assert (missing.value.kind, refused.value.kind) == (ErrorKind.not_found, ErrorKind.rejected)


async def test_one_record_is_read_by_its_key(peer: Peer, makini: MakiniClient) -> None:
    peer.answer("GET", f"{ASSETS}/00%2F7", {"data": {"key": "00/7", "name": "Pump"}})
    record = await makini.record("t", "eam/assets", "00/7", connection="acme")
    assert record == {"key": "00/7", "name": "Pump"}
    assert await makini.record("t", "eam/assets", "gone", connection="acme") is None


async def test_a_record_that_is_null_is_one_that_does_not_exist(
    peer: Peer, makini: MakiniClient
) -> None:
    peer.answer("GET", f"{ASSETS}/7", {"data": None})
    assert await makini.record("t", "eam/assets", "7", connection="acme") is None


async def test_a_key_no_address_can_hold_is_rejected(makini: MakiniClient) -> None:
    with pytest.raises(MakiniError, match="too long") as refused:
        await makini.record("t", "eam/assets", "7" * 70_000, connection="acme")
    assert (refused.value.kind, refused.value.retryable) == (ErrorKind.rejected, False)


async def test_a_makini_of_an_earlier_version_is_asked_on_its_own_route(
    makini: MakiniClient, peer: Peer
) -> None:
    refused = JSONResponse({"message": "Not found"}, 404)
    peer.answer("GET", "/api/integrations/current", lambda _: refused)
    peer.answer("GET", "/api/integrations/sync/status", {"status": "done"})
    status = await makini.status("t", connection="acme")
    assert (status.sync_status, status.id) == ("done", "")
