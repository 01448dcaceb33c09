"""A token that ends while its call waits for the call budget says nothing of the login."""

from typing import Any

from sqlmodel import select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Incident
from linekeeper.sweep.batch import probe_batch
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, asset, rt, server
from tests.reconcile.conftest import run

__all__ = ["rt", "server"]  # fixtures
STATUS = "/api/integrations/current"
MINT = "/api/system/connections/k1/token"


class Tokens:
    """Makini's: the first few have ended by the time they come to be used."""

    def __init__(self, server: Peer, ended: int) -> None:
        self._ended = ended
        self.minted = 0
        server.answer("POST", MINT, self.mint)
        server.answer("GET", STATUS, self.answering({"data": {"id": "k1", "sync_status": "done"}}))
        page = {"data": [asset("1")], "meta": {"current_page": 1, "last_page": 1, "total": 1}}
        server.answer("GET", ASSETS, self.answering(page))

    def end(self) -> None:
        """The first token ends now."""
        self._ended = max(self._ended, 1)

    def mint(self, _: Any) -> JSONResponse:
        self.minted += 1
        lasts = -1 if self.minted <= self._ended else 3600
        end = utcnow().timestamp() + lasts
        return JSONResponse({"token": f"t{self.minted}", "expires_in": end})

    def answering(self, answer: object) -> Any:
        def answered(request: Request) -> JSONResponse:
            token = request.headers["authorization"].removeprefix("Bearer t")
            if int(token) <= self._ended:
                return JSONResponse({"message": "The token is expired."}, 401)
            return JSONResponse(answer)

        return answered


async def lost(rt: Runtime) -> bool:
    """Whether the login counts as lost, or somebody is notified of anything."""
    async with rt.store.read() as session:
        (connection,) = await session.scalars(select(Connection))
        incidents = (await session.scalars(select(Incident))).all()
    return connection.health == "reauthorization_required" or bool(incidents)


async def test_tokens_that_ended_while_their_calls_waited_are_replaced(
    rt: Runtime, server: Peer
) -> None:
    """With 1,000 connections at 60 calls a minute customers were asked to log in again."""
    tokens = Tokens(server, ended=2)
    done = await run(rt)
    assert not done.failures
    assert not await lost(rt)
    assert tokens.minted == 3


async def test_a_renewal_that_gets_no_answer_between_two_pages_is_tried_again(
    rt: Runtime, server: Peer
) -> None:
    """The customer was asked to log in: with the listing begun anew the old token was refused, and
    the renewal that had got no answer counted as one that gave none."""
    tokens = Tokens(server, ended=0)
    answered = tokens.answering({})

    def mint_or_break_off(request: Request) -> Response:
        answer = tokens.mint(request)
        return Response(headers={"content-length": "100"}) if tokens.minted == 2 else answer

    def page(request: Request) -> Response:
        number = int(request.query_params.get("page", 1))
        answer: Response = answered(request)
        if answer.status_code == 200:
            tokens.end()
            meta = {"current_page": number, "last_page": 2, "total": 2}
            return JSONResponse({"data": [asset(str(number))], "meta": meta})
        return answer

    server.answer("POST", MINT, mint_or_break_off)
    server.answer("GET", ASSETS, page)
    done = await run(rt)
    assert not await lost(rt)
    assert not done.failures


async def test_a_probe_replaces_them_too(rt: Runtime, server: Peer) -> None:
    Tokens(server, ended=2)
    async with rt.store.read() as session:
        (connection,) = await session.scalars(select(Connection))
    await probe_batch(rt, await rt.app("default"), [connection.id], started=utcnow(), last_try=True)
    assert not await lost(rt)


async def test_where_every_token_is_refused_the_login_is_lost_and_no_more_are_asked_for(
    rt: Runtime, server: Peer
) -> None:
    tokens = Tokens(server, ended=1_000)
    await run(rt)
    assert await lost(rt)
    assert tokens.minted <= 5
