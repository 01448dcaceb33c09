"""The least that keeps what comes: bytes into one table, all that wait in one commit.

It looks at nothing: no signature, no id, no second index. What `benchmarks.receive` compares large
bodies with, for there the storage is most of the work.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

MOST = 512
_ANSWER = b'{"status":"accepted"}'.ljust(65)


class Bare:
    """The ASGI app; it opens its database at the first request."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        message = await receive()
        parts = [message["body"]]
        while message["more_body"]:
            message = await receive()
            parts.append(message["body"])
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((b"".join(parts), stored))
        self._wake.set()
        await stored
        headers = [(b"content-type", b"application/json"), (b"content-length", b"65")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": _ANSWER})

    async def _run(self) -> None:
        write = await (_sqlite if self._url.startswith("sqlite") else _postgres)(self._url)
        while True:
            await self._wake.wait()
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            if not self._waiting:
                self._wake.clear()
            await write([body for body, _ in batch])
            for _, stored in batch:
                if not stored.done():
                    stored.set_result(None)


async def _sqlite(url: str) -> Any:
    thread = ThreadPoolExecutor(1)

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(url.partition("///")[2], isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE bare (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        return connection

    loop = asyncio.get_running_loop()
    connection = await loop.run_in_executor(thread, connect)

    def insert(bodies: Sequence[bytes]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        rows = ", ".join(["(?)"] * len(bodies))
        connection.execute(f"INSERT INTO bare (body) VALUES {rows}", list(bodies))
        connection.execute("COMMIT")

    async def write(bodies: Sequence[bytes]) -> None:
        await loop.run_in_executor(thread, insert, bodies)

    return write


async def _postgres(url: str) -> Any:
    import asyncpg

    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    await connection.execute("CREATE TABLE bare (id bigserial PRIMARY KEY, body bytea NOT NULL)")

    async def write(bodies: Sequence[bytes]) -> None:
        await connection.execute("INSERT INTO bare (body) SELECT unnest($1::bytea[])", list(bodies))

    return write
