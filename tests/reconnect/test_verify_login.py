"""What a new login is verified by: its status and a read; one entity's refusal is not the login."""

from collections.abc import AsyncIterator

import pytest
from sqlmodel import select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.makini import MakiniError
from linekeeper.reconnect.process import NotVerified, verify_login
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Connection
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


async def test_a_read_that_has_no_answer_is_tried_again(rt: Runtime, server: Peer) -> None:
    for entity in ENTITIES:
        server.answer("GET", f"/api/{entity}", lambda _: JSONResponse({}, 503))
    connection = await only(rt)
    with pytest.raises(MakiniError):
        await verify_login(rt, connection.id)
    assert (await only(rt)).health == "healthy"
