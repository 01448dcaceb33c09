"""Slack's side of Socket Mode, as its documentation says: addresses for one use, envelopes that
are sent again until they are acknowledged, and connections that end whenever Slack likes."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web

APP_TOKEN = "xapp-1-test"


class SocketPeer:
    """What was pressed, over connections that come and go."""

    def __init__(self) -> None:
        self.url = ""
        self.connections: list[web.WebSocketResponse] = []
        self.waiting: dict[str, dict[str, Any]] = {}
        self.acknowledged: list[str] = []
        self.sent: list[str] = []
        self.took: list[float] = []
        """Seconds from the last time that each was sent to its acknowledgement."""
        self.views: list[dict[str, Any]] = []
        self.homes: dict[str, dict[str, Any]] = {}
        """The home page of each member."""
        self.bots: list[str] = []
        """By which token each of them was shown."""
        self.notified: list[dict[str, Any]] = []
        """What was said that one member alone sees."""
        self.answers: dict[str, Any] = {}
        """What each press was answered with."""
        self.refusal = ""
        self.stale = 0
        """So many of the next addresses are refused when they are used."""
        self._tickets: set[str] = set()
        self._numbers = itertools.count(1)
        self._chance = random.Random(21)
        self._sent_at: dict[str, float] = {}

    async def press(self, payload: dict[str, Any]) -> str:
        """Somebody pressed something: it goes to one connection, and stays until acknowledged."""
        identifier = f"envelope-{next(self._numbers)}"
        self.waiting[identifier] = payload
        await self._send(identifier)
        return identifier

    async def send_again(self) -> None:
        """What isn't acknowledged goes to a connection once more."""
        for identifier in list(self.waiting):
            await self._send(identifier)

    async def taken(self, most: int = 0) -> bool:
        """Whether no more than so many wait; what does is sent again, as Slack does after a while.

        A connection may break beneath an envelope, or a busy machine be late to acknowledge it.
        """
        for _ in range(25):
            if len(self.waiting) <= most:
                return True
            await asyncio.sleep(0.02)
        await self.send_again()
        return False

    async def drop(self) -> None:
        """Every connection breaks without a word."""
        for connection in self.connections:
            if (transport := connection._req and connection._req.transport) is not None:
                transport.abort()

    async def ask_to_reconnect(self) -> None:
        """Slack is about to close every connection, and says so."""
        for connection in list(self.connections):
            await self._say(connection, {"type": "disconnect", "reason": "refresh_requested"})

    async def _send(self, identifier: str) -> None:
        alive = [connection for connection in self.connections if not connection.closed]
        if not alive:
            return
        envelope = {
            "type": "events_api" if "event" in self.waiting[identifier] else "interactive",
            "envelope_id": identifier,
            "accepts_response_payload": True,
            "payload": self.waiting[identifier],
        }
        self.sent.append(identifier)
        self._sent_at[identifier] = time.monotonic()
        await self._say(self._chance.choice(alive), envelope)

    async def _say(self, connection: web.WebSocketResponse, message: dict[str, Any]) -> None:
        try:
            await connection.send_json(message)
        except (ConnectionError, RuntimeError):
            return  # it broke at this moment

    async def open(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {APP_TOKEN}" or self.refusal:
            return web.json_response({"ok": False, "error": self.refusal or "invalid_auth"})
        ticket = str(next(self._numbers))
        if self.stale:
            self.stale -= 1
        else:
            self._tickets.add(ticket)
        url = f"{self.url.replace('http', 'ws')}/link?ticket={ticket}"
        return web.json_response({"ok": True, "url": url})

    async def link(self, request: web.Request) -> web.StreamResponse:
        ticket = request.query.get("ticket", "")
        if ticket not in self._tickets:
            return web.Response(status=403)
        self._tickets.discard(ticket)
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        await connection.send_json({"type": "hello", "num_connections": 1})
        self.connections.append(connection)
        try:
            async for message in connection:
                if message.type == WSMsgType.TEXT:
                    identifier = str(message.json().get("envelope_id"))
                    if self.waiting.pop(identifier, None) is not None:
                        self.acknowledged.append(identifier)
                        self.answers[identifier] = message.json().get("payload")
                        self.took.append(time.monotonic() - self._sent_at.pop(identifier))
        finally:
            self.connections.remove(connection)
        return connection

    async def open_view(self, request: web.Request) -> web.Response:
        self.views.append((await request.json())["view"])
        return web.json_response({"ok": True, "view": {}})

    async def publish_view(self, request: web.Request) -> web.Response:
        given = await request.json()
        self.homes[given["user_id"]] = given["view"]
        self.bots.append(request.headers["Authorization"])
        return web.json_response({"ok": True, "view": {}})

    async def post_ephemeral(self, request: web.Request) -> web.Response:
        self.notified.append(await request.json())
        return web.json_response({"ok": True, "message_ts": "1.1"})


@asynccontextmanager
async def socket_peer() -> AsyncIterator[SocketPeer]:
    """The peer, on a port of its own."""
    peer = SocketPeer()
    app = web.Application()
    app.router.add_post("/api/apps.connections.open", peer.open)
    app.router.add_post("/api/views.open", peer.open_view)
    app.router.add_post("/api/views.publish", peer.publish_view)
    app.router.add_post("/api/chat.postEphemeral", peer.post_ephemeral)
    app.router.add_get("/link", peer.link)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    [address, *_] = runner.addresses
    peer.url = f"http://127.0.0.1:{address[1]}"
    try:
        yield peer
    finally:
        await runner.cleanup()


async def until(condition: Any, seconds: float = 60.0) -> None:
    """Wait for `condition`, which may be a coroutine function."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.02)
