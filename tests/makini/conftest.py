"""A Makini peer and a client of it."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from pydantic import SecretStr

from linekeeper.config import AppConfig
from linekeeper.makini import MakiniClient
from tests.makini.peer import CLIENT_SECRET, Peer, PeerServer


@pytest.fixture(scope="session")
def peer_server() -> Iterator[Peer]:
    server = PeerServer()
    yield server.start()
    server.stop()


@pytest.fixture
def peer(peer_server: Peer) -> Peer:
    """The peer, knowing nothing but how to issue admin tokens."""
    peer_server.reset()
    return peer_server


@pytest.fixture
async def connect(peer: Peer) -> AsyncIterator[Callable[..., MakiniClient]]:
    """Make a client of the peer: `connect(mode="observe", per_page=2, budget=…)`."""
    async with AsyncExitStack() as stack:

        def make(*, budget: Any = None, clock: Any = None, **settings: Any) -> MakiniClient:
            app = AppConfig(
                **{
                    "name": "plant",
                    "mode": "manage",
                    "api_url": peer.url,
                    "client_id": "client-7",
                    "client_secret": SecretStr(CLIENT_SECRET),
                    "timeout_seconds": 10,
                    **settings,
                }
            )
            extra = {"clock": clock} if clock else {}
            client = MakiniClient(app, budget=budget, **extra)
            stack.push_async_callback(client.aclose)
            return client

        yield make


@pytest.fixture
async def makini(connect: Callable[..., MakiniClient]) -> MakiniClient:
    """A client of the peer in mode `manage`."""
    return connect()
