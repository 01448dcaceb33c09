"""A sandbox, and clients that know no more of it than what an operator's program would."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

from sandbox import Served, Settings, World, serving


class _Server(uvicorn.Server):
    """Leaves the signals to pytest."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def listening(app: Starlette) -> AsyncIterator[str]:
    """Somebody else's server, as the peer of the sandbox; yields its address."""
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = _Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await task


@dataclass(slots=True)
class Box:
    """A sandbox that is up, with the calls that most tests make."""

    served: Served
    http: httpx.AsyncClient

    @property
    def world(self) -> World:
        return self.served.world

    async def admin(self) -> dict[str, str]:
        """Headers with an admin token."""
        settings = self.world.settings
        answer = await self.http.post(
            "/link/token",
            json={
                "grant_type": "client_credentials",
                "client_id": settings.client_id,
                "client_secret": settings.client_secret,
            },
        )
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    async def keys(self) -> list[str]:
        shown = await self.http.get("/_control/connections")
        return [connection["key"] for connection in shown.json()["data"]]

    async def pair(self, key: str) -> dict[str, Any]:
        pair: dict[str, Any] = (await self.http.get(f"/_control/connections/{key}/tokens")).json()
        return pair

    async def as_connection(self, key: str) -> dict[str, str]:
        """Headers with a token of the connection."""
        return {"Authorization": f"Bearer {(await self.pair(key))['access_token']}"}

    async def act(self, key: str, action: str, **body: object) -> httpx.Response:
        return await self.http.post(f"/_control/connections/{key}/{action}", json=body)

    async def status(self, key: str) -> httpx.Response:
        return await self.http.get(
            "/api/integrations/current", headers=await self.as_connection(key)
        )


@pytest.fixture
async def open_box() -> AsyncIterator[Callable[..., Awaitable[Box]]]:
    """Opens a sandbox with the settings given; all are closed at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def opened(**settings: Any) -> Box:
            served = await stack.enter_async_context(serving(Settings(port=0, **settings)))
            http = await stack.enter_async_context(
                httpx.AsyncClient(base_url=served.url, verify=False)
            )
            return Box(served, http)

        yield opened


@pytest.fixture
async def box(open_box: Callable[..., Awaitable[Box]]) -> Box:
    return await open_box()
