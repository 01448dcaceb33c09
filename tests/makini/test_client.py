"""What the client asks of Makini, and what it makes of the answers."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.makini import (
    ErrorKind,
    ListedConnection,
    MakiniClient,
    MakiniError,
    ReadOnlyApp,
    TokenPair,
)
from tests.makini.peer import CLIENT_SECRET, Peer

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


async def test_the_admin_token_is_fetched_once_for_all_who_wait(
    peer: Peer, makini: MakiniClient
) -> None:
    peer.answer("GET", "/api/system/client", {"data": {"name": "Acme Cloud"}})
    names = await asyncio.gather(*(makini.check() for _ in range(20)))
    assert (set(names), peer.tokens_made) == ({"Acme Cloud"}, 1)
    assert orjson.loads(peer.asked("/link/token")[0].body) == {
        "grant_type": "client_credentials",
        "client_id": "client-7",
        "client_secret": CLIENT_SECRET,
    }


@pytest.mark.parametrize(
    ("lifetime", "fetched"),
    [
        (300, 2),  # used until a tenth is left: after 290 s it is replaced
        ((NOW + timedelta(seconds=3600)).timestamp(), 1),
        (str(int((NOW + timedelta(seconds=320)).timestamp())), 2),
        (None, 1),  # says nothing: until refused
        ((NOW - timedelta(days=1)).timestamp(), 1),  # a clock that is off: until refused
    ],
)
async def test_the_admin_token_is_replaced_shortly_before_its_end(
    peer: Peer, connect: Connect, lifetime: object, fetched: int
) -> None:
    now = NOW
    makini = connect(clock=lambda: now)
    peer.token_lifetime = lifetime
    peer.answer("GET", "/api/system/client", {"name": "Acme Cloud"})
    await makini.check()
    await makini.check()
    assert peer.tokens_made == 1
    now = NOW + timedelta(seconds=290)
    await makini.check()
    assert peer.tokens_made == fetched


async def test_credentials_that_were_refused_are_not_shown_again_at_once(
    peer: Peer, connect: Callable[..., MakiniClient]
) -> None:
    now = [datetime(2026, 3, 1, tzinfo=UTC)]
    makini = connect(clock=lambda: now[0])
    peer.answer("POST", "/link/token", lambda _: JSONResponse({"error": "invalid_client"}, 401))
    for _ in range(5):
        with pytest.raises(MakiniError) as refused:
            await listed(makini)
        assert refused.value.kind is ErrorKind.unauthorized
    assert len(peer.asked("/link/token")) == 1
    now[0] += timedelta(seconds=20)
    with pytest.raises(MakiniError):
        await listed(makini)
    assert len(peer.asked("/link/token")) == 2


async def test_a_refused_admin_token_is_fetched_again_once(
    peer: Peer, makini: MakiniClient
) -> None:
    def answer(request: Request) -> Response:
        good = request.headers["authorization"] == "Bearer admin-2"
        return JSONResponse({"data": []} if good else {}, 200 if good else 401)

    peer.answer("GET", CONNECTIONS, answer)
    assert await listed(makini) == []
    assert peer.tokens_made == 2


async def test_an_admin_token_refused_again_is_an_error_of_the_app(
    peer: Peer, makini: MakiniClient
) -> None:
    peer.answer("GET", CONNECTIONS, lambda _: JSONResponse({}, 401))
    with pytest.raises(MakiniError) as caught:
        await listed(makini)
    assert (caught.value.kind, caught.value.connection) == (ErrorKind.unauthorized, None)
    assert peer.tokens_made == 2


async def test_a_refused_mint_is_never_taken_for_a_lost_login(
    peer: Peer, makini: MakiniClient
) -> None:
    peer.answer("POST", f"{CONNECTIONS}/acme/token", lambda _: JSONResponse({}, 401))
    with pytest.raises(MakiniError) as caught:
        await makini.mint_token("acme")
    assert (caught.value.kind, caught.value.connection) == (ErrorKind.forbidden, "acme")


# Tokens of a connection


@pytest.mark.parametrize(
    "answer",
    [
        {"token": "fresh", "expires_in": 300},
        {"data": {"access_token": "fresh", "expires_in": "300"}},
        {"data": {"token": "fresh", "expires_in": NOW.timestamp() + 300}},
    ],
)
async def test_a_minted_token_is_read_in_every_shape(
    peer: Peer, connect: Connect, answer: object
) -> None:
    peer.answer("POST", f"{CONNECTIONS}/a%2Fb%20%3F/token", answer)
    pair = await connect(clock=lambda: NOW).mint_token("a/b ?")
    assert pair == TokenPair("fresh", None, NOW + timedelta(seconds=300), minted=True)
    assert "fresh" not in repr(pair)


async def test_a_refresh_sends_the_form_and_returns_the_new_pair(
    peer: Peer, connect: Connect
) -> None:
    peer.answer(
        "POST",
        "/link/token",
        {"access_token": "a2", "refresh_token": "r2", "token_type": "bearer", "expires_in": "60"},
    )
    pair = await connect(clock=lambda: NOW).refresh("r1", connection="acme")
    assert pair == TokenPair("a2", "r2", NOW + timedelta(seconds=60))
    (asked,) = peer.seen
    assert dict(parse_qsl(asked.body.decode())) == {
        "grant_type": "refresh_token",
        "refresh_token": "r1",
        "client_id": "client-7",
        "client_secret": CLIENT_SECRET,
    }
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"


async def test_a_refresh_that_gives_no_new_refresh_token_leaves_the_one_that_was_used(
    peer: Peer, connect: Connect
) -> None:
    peer.answer("POST", "/link/token", {"access_token": "a2", "expires_in": 60})
    pair = await connect(clock=lambda: NOW).refresh("r1", connection="acme")
    assert pair == TokenPair("a2", "r1", NOW + timedelta(seconds=60))


async def test_a_refused_refresh_token_is_said_without_it(peer: Peer, makini: MakiniClient) -> None:
    body = {"error": "invalid_grant", "error_description": "r1-old is revoked"}
    peer.answer("POST", "/link/token", lambda _: JSONResponse(body, 400))
    with pytest.raises(MakiniError) as caught:
        await makini.refresh("r1-old", connection="acme")
    error = caught.value
    assert (error.kind, error.code, error.connection) == (
        ErrorKind.rejected,
        "invalid_grant",
        "acme",
    )
    assert error.message == "… is revoked"


async def test_wrong_client_credentials_are_never_blamed_on_the_connection(
    peer: Peer, makini: MakiniClient
) -> None:
    peer.answer("POST", "/link/token", lambda _: JSONResponse({"error": "invalid_client"}, 401))
    with pytest.raises(MakiniError) as caught:
        await makini.refresh("r1", connection="acme")
    assert (caught.value.kind, caught.value.connection) == (ErrorKind.unauthorized, None)


@pytest.mark.parametrize("token", [None, "", 7, "two words", "new\nline", {}])
async def test_an_answer_without_a_usable_token_is_malformed(
    peer: Peer, makini: MakiniClient, token: object
) -> None:
    peer.answer("POST", "/link/token", {"access_token": token, "refresh_token": "r"})
    with pytest.raises(MakiniError, match="no usable access_token"):
        await makini.exchange_code("code", "https://us.example/oauth/callback")


async def test_in_observe_nothing_is_minted_refreshed_or_deleted(
    peer: Peer, connect: Connect
) -> None:
    makini = connect(mode="observe")
    for call in (
        makini.mint_token("acme"),
        makini.refresh("r1", connection="acme"),
        makini.delete_connection("acme"),
    ):
        with pytest.raises(ReadOnlyApp, match="App plant is in observe mode"):
            await call
    assert peer.seen == []


async def test_in_observe_a_code_is_exchanged_and_the_list_read(
    peer: Peer, connect: Connect
) -> None:
    makini = connect(mode="observe")
    peer.answer("GET", CONNECTIONS, {"data": []})
    assert await listed(makini) == []
    pair = await makini.exchange_code("code", "https://us.example/oauth/callback")
    assert pair.access_token == "admin-2"


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
