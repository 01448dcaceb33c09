"""A run holds nothing that it does not read: others may read it meanwhile."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.reconcile import service
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Connection
from tests.makini.peer import Peer, PeerServer
from tests.reconcile.conftest import adopt, pointed_at, run

ASSETS = "/api/eam/assets"
KEYS = ("k1", "k2", "k3")


class Gate:
    """Holds up the reads of one connection until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    async def pass_through(self) -> None:
        self.reached.set()
        await asyncio.to_thread(self.opened.wait)


@pytest.fixture
def gates() -> Iterator[dict[str, Gate]]:
    made = {"k1": Gate(), "k3": Gate()}
    yield made
    for gate in made.values():
        gate.opened.set()


@pytest.fixture
def server(gates: dict[str, Gate]) -> Iterator[Peer]:
    """Three connections with an asset each."""
    peer_server = PeerServer()
    peer = peer_server.start()
    peer.reset()
    listed = [{"key": key, "name": f"{key} · SAP", "status": "Active"} for key in KEYS]
    peer.answer("GET", "/api/system/connections", {"data": listed})
    for key in KEYS:
        token = {"token": key, "expires_in": 3600}
        peer.answer("POST", f"/api/system/connections/{key}/token", token)

    async def assets(request: Request) -> Response:
        gate = gates.get(request.headers["authorization"].removeprefix("Bearer "))
        if gate is not None:
            await gate.pass_through()
        return JSONResponse({"data": [{"key": "01"}]})

    peer.answer("GET", ASSETS, assets)
    yield peer
    for gate in gates.values():
        gate.opened.set()
    peer_server.stop()


@pytest.fixture
async def rt(settings: Settings, store: Store, server: Peer) -> AsyncIterator[Runtime]:
    managed = pointed_at(
        settings, server.url, makini_entities=("eam/assets",), makini_timeout_seconds=60
    )
    async with Runtime.open(managed) as opened:
        await adopt(opened)
        yield opened


async def test_what_another_run_has_read_meanwhile_is_not_held_until_the_end(
    rt: Runtime, gates: dict[str, Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one connection took hours, nobody else could read those for as long."""
    monkeypatch.setattr(service, "SIDE_BY_SIDE", 1)
    async with rt.store.read() as session:
        ids = dict(
            (await session.execute(select(col(Connection.makini_key), col(Connection.id)))).all()
        )
    async with Runtime.open(rt.settings) as other:
        whole = asyncio.create_task(run(rt))
        await asyncio.to_thread(gates["k1"].reached.wait)
        await run(other, connections=[ids["k2"]])
        gates["k1"].opened.set()
        await asyncio.to_thread(gates["k3"].reached.wait)
        async with asyncio.timeout(30):
            again = await run(other, connections=[ids["k2"]])
        assert again.connections == {ids["k2"]}
        gates["k3"].opened.set()
        assert (await whole).connections == {ids["k1"], ids["k3"]}
