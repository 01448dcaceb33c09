"""Whenever closing something is cancelled, and however often, nothing is left open."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import httpx
import pytest

from linekeeper.clock import utcnow
from linekeeper.inbox.identify import identify, make_delivery
from linekeeper.inbox.intake import Intake
from linekeeper.inbox.meaning import EventNames
from linekeeper.outbox.senders.forward import ForwardSender
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from tests.cancelling import CancelledAt
from tests.inbox.process.stage import NO_HEADERS
from tests.makini.peer import Peer
from tests.reconcile.answering import server, with_one_connection
from tests.reconcile.conftest import pointed_at

__all__ = ["server"]
pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True, scope="session")

Opened = tuple[Callable[[], Coroutine[Any, Any, None]], Callable[[], list[bool]]]
"""How to close what was opened, and what says of each part of it whether it is closed."""


def is_closed(client: httpx.AsyncClient) -> bool:
    transport: Any = client._transport
    return bool(transport.client.closed)


async def runtime(settings: Settings, server: Peer) -> Opened:
    """One that called an app, for a customer's login, too, and then with other settings."""
    manager = Runtime.open(pointed_at(settings, server.url))
    rt = await manager.__aenter__()
    app = await rt.app("default")
    changed = app.model_copy(update={"timeout_seconds": 7.0})
    clients = [rt.makini(app), rt.makini(app, for_login=True), rt.makini(changed)]
    for client in clients:
        await client.check()

    async def close() -> None:
        await manager.__aexit__(None, None, None)

    return close, lambda: [is_closed(client._client) for client in clients]


async def sender(settings: Settings, server: Peer) -> Opened:
    """One that posted to two products."""
    store = Store.open(settings)
    forwards = ForwardSender(Runtime(settings, store), utcnow)
    for address in (server.url, server.url.replace("127.0.0.1", "localhost")):
        await forwards._post(f"{address}/hook", b"{}", [])
    clients = list(forwards._clients.values())

    async def close() -> None:
        await forwards.close()

    return close, lambda: [is_closed(client) for client in clients]


async def intake(settings: Settings, server: Peer) -> Opened:
    """One that stores, with another delivery under way."""
    store = Store.open(settings)
    manager = Intake.open(store)
    opened = await manager.__aenter__()
    names = EventNames(("eam/assets",), {})

    def deliver(number: int) -> Awaitable[Any]:
        body = b'{"event":"assets.updated","id":"%d","body":["a-1"]}' % number
        identity = identify("default", names, NO_HEADERS, "k1", body, now=utcnow())
        return opened.store(
            make_delivery(new_id(), "default", identity, body, received_at=utcnow())
        )

    await deliver(1)
    under_way = asyncio.ensure_future(deliver(2))
    await asyncio.sleep(0)
    writer: Any = opened._writer

    async def close() -> None:
        await manager.__aexit__(None, None, None)

    def closed() -> list[bool]:
        under_way.cancel()
        return [writer._connection is None]

    return close, closed


@pytest.fixture
def peer(server: Peer) -> Peer:
    with_one_connection(server)
    server.answer("GET", "/api/system/client", {"id": "c", "name": "Acme"})
    server.answer("POST", "/hook", {})
    return server


@pytest.mark.parametrize("opening", [runtime, sender, intake])
async def test_whenever_closing_is_cancelled_nothing_is_left_open(
    settings: Settings,
    peer: Peer,
    opening: Callable[[Settings, Peer], Awaitable[Opened]],
) -> None:
    number, waits = 0, 1
    while number <= waits:
        close, closed = await opening(settings, peer)
        closing = CancelledAt(close(), number)

        async def ending(closing: CancelledAt = closing) -> None:
            await closing

        (error,) = await asyncio.gather(asyncio.create_task(ending()), return_exceptions=True)
        assert error is None or isinstance(error, asyncio.CancelledError)
        assert all(closed()), number
        number, waits = number + 1, max(waits, closing.waits)
