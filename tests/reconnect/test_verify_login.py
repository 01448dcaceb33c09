"""What a new login is verified by: its status and a read; one entity's refusal is not the login."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.clock import utcnow
from linekeeper.makini import MakiniError
from linekeeper.makini.bucket_row import bucket_row
from linekeeper.makini.budget import Bucket
from linekeeper.reconnect.process import NotVerified, verify_login
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import AppState, Connection
from linekeeper.sweep.batch import probe_batch
from tests.makini.peer import Peer
from tests.reconcile.answering import asset, server, with_one_connection
from tests.reconcile.conftest import ENTITIES, adopt, pointed_at

__all__ = ["server"]
STATUS = "/api/integrations/current"


def refused(_: Request) -> Response:
    return JSONResponse({"code": "AUTHENTICATION_FAILED", "message": "Not this."}, 401)


@pytest.fixture
async def rt(settings: Settings, store: Store, server: Peer) -> AsyncIterator[Runtime]:
    with_one_connection(server)
    for entity in ENTITIES:
        answer = {"data": [asset(entity)], "meta": {"last_page": 1, "total": 1}}
        server.answer("GET", f"/api/{entity}", answer)
    server.answer("GET", STATUS, {"data": {"id": "k1", "sync_status": "done"}})
    async with Runtime.open(pointed_at(settings, server.url)) as opened:
        await adopt(opened)
        yield opened


async def only(rt: Runtime) -> Connection:
    async with rt.store.read() as session:
        return (await session.scalars(select(Connection))).one()


async def test_one_entity_that_is_refused_does_not_mean_that_the_login_is_lost_again(
    rt: Runtime, server: Peer
) -> None:
    server.answer("GET", f"/api/{ENTITIES[0]}", refused)
    connection = await only(rt)
    assert "can be read" in await verify_login(rt, connection.id)
    after = await only(rt)
    assert (after.health, after.evidence) == ("healthy", "read")


async def test_its_calls_go_before_those_that_nobody_waits_for(rt: Runtime) -> None:
    connection = await only(rt)
    none_left = bucket_row(Bucket(0.0, utcnow()))
    async with rt.store.write() as session:
        await session.execute(update(AppState).values(budget=none_left))
    limited = rt.settings.model_copy(update={"makini_per_minute": 600})
    async with Runtime.open(limited) as opened:
        await verify_login(opened, connection.id)
    async with rt.store.read() as session:
        budget = (await session.scalars(select(AppState.budget))).one()
    assert budget["person_waited_at"] is not None


async def test_one_entity_refused_and_the_others_not_permitted_is_no_lost_login(
    rt: Runtime, server: Peer
) -> None:
    server.answer("GET", f"/api/{ENTITIES[0]}", refused)
    for entity in ENTITIES[1:]:
        server.answer("GET", f"/api/{entity}", lambda _: JSONResponse({"code": "NO"}, 403))
    connection = await only(rt)
    assert "no entity of it may be read" in await verify_login(rt, connection.id)
    assert (await only(rt)).health == "healthy"


async def test_where_the_reads_are_refused_the_login_is_lost_again(
    rt: Runtime, server: Peer
) -> None:
    for entity in ENTITIES:
        server.answer("GET", f"/api/{entity}", refused)
    connection = await only(rt)
    with pytest.raises(NotVerified):
        await verify_login(rt, connection.id)
    assert (await only(rt)).health == "reauthorization_required"


def ends_when_it_is_read(server: Peer) -> None:
    """Somebody ends the connection at Makini while the first record is asked for."""
    ended: list[bool] = []

    def read(_: Request) -> Response:
        ended.append(True)
        return refused(_)

    def status(_: Request) -> Response:
        data = {"id": "k1", "sync_status": "done"}
        return refused(_) if ended else JSONResponse({"data": data})

    def mint(_: Request) -> Response:
        if ended:
            return JSONResponse({"message": "no such connection"}, 404)
        return JSONResponse({"data": {"access_token": "minted", "expires_in": 3600}})

    for entity in ENTITIES:
        server.answer("GET", f"/api/{entity}", read)
    server.answer("GET", STATUS, status)
    server.answer("POST", "/api/system/connections/k1/token", mint)


async def test_a_connection_that_ends_at_makini_while_it_is_verified_has_not_lost_its_login(
    rt: Runtime, server: Peer
) -> None:
    """Universe 30508: its customer, who had just logged in, was asked to log in once more."""
    ends_when_it_is_read(server)
    connection = await only(rt)
    with pytest.raises(NotVerified):
        await verify_login(rt, connection.id)
    assert (await only(rt)).health == "unknown"


async def test_nor_has_one_that_ends_while_a_sweep_reads_of_it(rt: Runtime, server: Peer) -> None:
    ends_when_it_is_read(server)
    connection = await only(rt)
    async with rt.store.write() as session:
        row = await session.get_one(Connection, connection.id)
        row.created_at = utcnow() - timedelta(days=9)  # its login was tested by nobody
    app = await rt.app(connection.app)
    await probe_batch(rt, app, [connection.id], started=utcnow(), last_try=True)
    assert (await only(rt)).health == "unknown"


async def test_a_token_that_ends_while_the_login_is_verified_is_renewed(
    rt: Runtime, server: Peer
) -> None:
    tokens = ["first"]

    def is_good(request: Request) -> bool:
        return request.headers["authorization"] == f"Bearer {tokens[-1]}" and len(tokens) > 1

    def status(request: Request) -> Response:
        is_first = len(tokens) == 1
        if is_first or is_good(request):
            return JSONResponse({"data": {"id": "k1", "sync_status": "done"}})
        return refused(request)

    def read(request: Request) -> Response:
        if is_good(request):
            return JSONResponse({"data": [asset("a")], "meta": {"last_page": 1, "total": 1}})
        tokens.append("ended")
        return refused(request)

    def mint(_: Request) -> Response:
        if len(tokens) > 1:
            tokens.append("second")
        return JSONResponse({"data": {"access_token": tokens[-1], "expires_in": 3600}})

    for entity in ENTITIES:
        server.answer("GET", f"/api/{entity}", read)
    server.answer("GET", STATUS, status)
    server.answer("POST", "/api/system/connections/k1/token", mint)
    connection = await only(rt)
    assert "can be read" in await verify_login(rt, connection.id)
    assert (await only(rt)).health == "healthy"


async def test_a_read_that_has_no_answer_is_tried_again(rt: Runtime, server: Peer) -> None:
    for entity in ENTITIES:
        server.answer("GET", f"/api/{entity}", lambda _: JSONResponse({}, 503))
    connection = await only(rt)
    with pytest.raises(MakiniError):
        await verify_login(rt, connection.id)
    assert (await only(rt)).health == "healthy"
