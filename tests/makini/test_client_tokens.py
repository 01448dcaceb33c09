"""The client's tokens: the app's own is fetched once, others are minted and renewed."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.makini import (
    ErrorKind,
    MakiniClient,
    MakiniError,
    ReadOnlyApp,
    TokenPair,
)
from tests.makini.peer import CLIENT_SECRET, Peer
from tests.makini.test_client import CONNECTIONS, NOW, Connect, listed


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
