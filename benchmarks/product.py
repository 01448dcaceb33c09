"""The operator's product in a benchmark: takes what is handed on and notes when it came."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Product:
    """When each event came first (`time.perf_counter`), by Makini's id, and how often others did
    again."""

    def __init__(self) -> None:
        self.url = ""
        self.came: dict[str, float] = {}
        self.repeated = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the requests of one connection, one after the other."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
                body: Any = orjson.loads(await reader.readexactly(length))
                identity = body["data"]["original"]["id"]
                self.repeated += identity in self.came
                self.came.setdefault(identity, time.perf_counter())
                writer.write(_OK)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[Product]:
    """A product that listens for the block."""
    product = Product()
    server = await asyncio.start_server(product.answer, "127.0.0.1", 0)
    product.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks"
    try:
        yield product
    finally:
        server.close()


def percentile(seconds: list[float], share: float) -> float:
    """The value that `share` of them don't exceed."""
    return sorted(seconds)[min(int(len(seconds) * share), len(seconds) - 1)]
