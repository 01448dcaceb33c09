"""A Makini with one connection that answers what it is told to."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.makini.peer import Peer, PeerServer

ASSETS = "/api/eam/assets"


@pytest.fixture(scope="module")
def server() -> Iterator[Peer]:
    """It, without a connection as yet."""
    peer_server = PeerServer()
    yield peer_server.start()
    peer_server.stop()


def with_one_connection(server: Peer) -> None:
    """Forget what it was told; it lists one connection and gives it a token."""
    server.reset()
    listed = {"data": [{"key": "k1", "name": "Acme · SAP ECC", "status": "Active"}]}
    server.answer("GET", "/api/system/connections", listed)
    server.answer("POST", "/api/system/connections/k1/token", {"token": "t", "expires_in": 3600})


def asset(key: Any, minute: int = 0, **fields: Any) -> dict[str, Any]:
    """A record changed at that minute."""
    return {"key": key, "updatedAt": f"2026-03-02T08:{minute:02d}:00Z", **fields}
