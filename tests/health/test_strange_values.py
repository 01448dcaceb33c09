"""Dates and totals that no calendar and no fleet has say nothing, and hold up nobody else."""

from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.runtime import Runtime
from linekeeper.store.tables import Watermark
from tests.health.test_list_totals import known, open_kinds, taken
from tests.health.test_sweep import connections, incidents, sweep
from tests.makini.peer import Peer
from tests.reconcile.answering import ASSETS, asset, rt, server
from tests.reconcile.conftest import run

__all__ = ["rt", "server"]
STATUS = "/api/integrations/current"


def two_connections(server: Peer, **meta: Any) -> None:
    entries = [{"key": key, "name": f"{key} - SAP", "status": "Active"} for key in ("k1", "k2")]
    server.answer("GET", "/api/system/connections", {"data": entries, "meta": meta})
    for key in ("k1", "k2"):
        token = {"token": key, "expires_in": 3600}
        server.answer("POST", f"/api/system/connections/{key}/token", token)


def caller(request: Request) -> str:
    return request.headers["authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize("date", ["9999-12-31", "9999-12-31T00:00:00Z", "0001-01-01T00:00:00Z"])
async def test_a_sync_dated_by_a_day_that_stands_for_none_fails_no_sweep(
    rt: Runtime, server: Peer, date: str
) -> None:
    """Nothing was written of any connection of the batch, sweep after sweep."""
    two_connections(server)

    def status(request: Request) -> Response:
        called = caller(request)
        said = {"id": called, "sync_status": "done"}
        return JSONResponse({"data": said | ({"sync_updated_at": date} if called == "k1" else {})})

    server.answer("GET", STATUS, status)
    server.answer("GET", ASSETS, {"data": [asset("01")]})
    await sweep(rt)
    assert [each.health for each in await connections(rt)] == ["healthy", "healthy"]
    assert await incidents(rt) == []


@pytest.mark.parametrize("total", [-1, 2**31, 10**30, 1e300])
async def test_a_total_that_is_none_is_as_good_as_unsaid(
    rt: Runtime, server: Peer, total: float
) -> None:
    """On PostgreSQL the whole run ended with it, on SQLite the entity was never read again."""
    two_connections(server, total=total)
    assert (await taken(rt)).truncated == ""
    assert await known(rt) == ["k1", "k2"]
    server.answer("GET", STATUS, {"data": {"id": "k", "sync_status": "done"}})

    def assets(request: Request) -> Response:
        strange = caller(request) == "k1"
        meta = {"total": total if strange else 1, "current_page": 1, "last_page": 1}
        return JSONResponse({"data": [asset("01")], "meta": meta})

    server.answer("GET", ASSETS, assets)
    await sweep(rt)
    for full in (True, True):
        done = await run(rt, full=full)
        assert done.failures == []
        assert len(done.connections) == 2
    assert await open_kinds(rt) == []
    async with rt.store.read() as session:
        for connection, said in zip(await connections(rt), (None, 1), strict=True):
            mark = await session.get_one(Watermark, (connection.id, "eam/assets"))
            assert mark.source_total == said
