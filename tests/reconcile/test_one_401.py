"""One 401 amid answers says nothing: what it was asked for is asked for once more."""

from collections.abc import AsyncIterator
from typing import TypeVar

import pytest
from sqlmodel import SQLModel, select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Incident, Record, WebhookEvent
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, asset, server, with_one_connection
from tests.reconcile.conftest import adopt, deliver, pointed_at, process, run

__all__ = ["server"]
STATUS = "/api/integrations/current"
PAGES = 3
Row = TypeVar("Row", bound=SQLModel)


class Assets:
    """Pages of one asset each; the calls whose turn it is are refused."""

    def __init__(self) -> None:
        self.refused: set[int] = set()
        self.minute = 0
        self.calls = 0

    def __call__(self, request: Request) -> Response:
        self.calls += 1
        if self.calls in self.refused:
            return JSONResponse({"message": "Unauthenticated."}, 401)
        page = int(request.query_params.get("page", "1"))
        meta = {"current_page": page, "last_page": PAGES, "total": PAGES}
        return JSONResponse({"data": [asset(f"a{page}", self.minute)], "meta": meta})


@pytest.fixture
def assets(server: Peer) -> Assets:
    return Assets()


@pytest.fixture
async def rt(
    settings: Settings, store: Store, server: Peer, assets: Assets
) -> AsyncIterator[Runtime]:
    with_one_connection(server)
    server.answer("GET", STATUS, {"data": {"id": "k1", "sync_status": "done"}})
    server.answer("GET", ASSETS, assets)
    managed = pointed_at(settings, server.url, makini_entities=("eam/assets",))
    async with Runtime.open(managed) as opened:
        await adopt(opened)
        yield opened


async def rows(rt: Runtime, table: type[Row]) -> list[Row]:
    async with rt.store.read() as session:
        return list(await session.scalars(select(table)))


@pytest.mark.parametrize("call", [1, 2, 3])
async def test_amid_a_listing_it_is_no_missing_permission(
    rt: Runtime, assets: Assets, call: int
) -> None:
    assets.refused = {call}
    assert not (await run(rt)).failures
    assert len(await rows(rt, Record)) == PAGES
    assert await rows(rt, Incident) == []


async def test_of_a_webhooks_record_it_defers_nothing(rt: Runtime, assets: Assets) -> None:
    await run(rt)
    assets.minute, assets.refused = 5, {assets.calls + 1}
    await deliver(rt, "k1", ["a1", "a2", "a3"])
    await process(rt)
    assert [event.status for event in await rows(rt, WebhookEvent)] == ["processed"]
    changed = [record for record in await rows(rt, Record) if record.updated_at.minute == 5]
    assert len(changed) == PAGES
