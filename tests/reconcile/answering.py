"""A Makini with one connection that answers what it is told to."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from tests.makini.peer import Peer, PeerServer
from tests.reconcile.conftest import adopt, pointed_at

ASSETS = "/api/eam/assets"


@pytest.fixture(scope="module")
def server() -> Iterator[Peer]:
    """It, without a connection as yet."""
    peer_server = PeerServer()
    yield peer_server.start()
    peer_server.stop()


@pytest.fixture
async def rt(settings: Settings, store: Store, server: Peer) -> AsyncIterator[Runtime]:
    """A runtime of one connection with assets only, of which nothing was read yet."""
    with_one_connection(server)
    managed = pointed_at(settings, server.url, makini_entities=("eam/assets",))
    async with Runtime.open(managed) as opened:
        await adopt(opened)
        yield opened


def with_one_connection(server: Peer) -> None:
    """Forget what it was told; it lists one connection and gives it a token."""
    server.reset()
    listed = {"data": [{"key": "k1", "name": "Acme · SAP ECC", "status": "Active"}]}
    server.answer("GET", "/api/system/connections", listed)
    server.answer("POST", "/api/system/connections/k1/token", {"token": "t", "expires_in": 3600})


def asset(key: Any, minute: int = 0, **fields: Any) -> dict[str, Any]:
    """A record changed at that minute."""
    return {"key": key, "updatedAt": f"2026-03-02T08:{minute:02d}:00Z", **fields}
