"""A real receiver on a port of its own, on each database, and a client without manners."""

import asyncio
import hashlib
import hmac
import queue
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr
from sqlalchemy import select
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.orchestrator import Blocks
from linekeeper.receiver import serve
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.configuration import save_blocks
from linekeeper.store.migrate import migrate
from linekeeper.store.tables import WebhookEvent
from tests.answering import answering
from tests.databases import Engine

SECRET = "s3cret"
STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MAX_BODY = 65_536


def signature(body: bytes, secret: str = SECRET) -> str:
    """What Makini would send as `X-Webhook-Signature`."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@dataclass
class Here:
    """A receiver that answers at `url`."""

    rt: Runtime
    url: str
    port: int
    http: httpx.AsyncClient

    async def post(
        self,
        body: object,
        path: str = "/webhooks/default",
        *,
        headers: Mapping[str, str] | None = None,
        secret: str = SECRET,
    ) -> httpx.Response:
        """Post `body` (bytes, or JSON of it), signed."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        signed = {"x-webhook-signature": signature(raw, secret), **(headers or {})}
        return await self.http.post(path, content=raw, headers=signed)

    async def raw(self, *pieces: bytes, end: bool = False, seconds: float = 10) -> bytes:
        """Send `pieces` as they are and return all that comes back until the other side closes.

        With `end` we close our half first. A connection that is reset counts as closed.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(seconds):
                try:
                    for piece in pieces:
                        writer.write(piece)
                        await writer.drain()
                    if end:
                        writer.write_eof()
                    return await reader.read()
                except ConnectionError:
                    return b""
        finally:
            writer.transport.abort()

    async def events(self) -> list[WebhookEvent]:
        """All rows, in order."""
        async with self.rt.store.read() as session:
            rows = await session.scalars(select(WebhookEvent).order_by(col(WebhookEvent.id)))
            return list(rows)


def head(*headers: str, path: str = "/webhooks/default", method: str = "POST") -> bytes:
    """A request's head; `headers` as they are."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


@asynccontextmanager
async def receiving(settings: Settings) -> AsyncIterator[Here]:
    """A receiver on `settings`, with one app by each scheme, in this event loop."""
    settings = settings.model_copy(
        update={"receiver_port": 0, "max_body_bytes": MAX_BODY},
    )
    async with Runtime.open(settings) as rt:
        standard: dict[str, Any] = {
            "webhook_scheme": "standard",
            "webhook_secrets": (SecretStr(STANDARD_SECRET),),
        }
        apps = [
            AppConfig(webhook_secrets=(SecretStr("older"), SecretStr(SECRET))),
            AppConfig(name="standard", **standard),
            AppConfig(name="bare"),
        ]
        await save_blocks(rt.store, Blocks(apps=apps), now=utcnow())
        with serve.listening(settings) as listener:
            url = serve.address(listener)
            async with answering(rt, listener), httpx.AsyncClient(base_url=url) as http:
                yield Here(rt, url, listener.getsockname()[1], http)


@pytest.fixture
async def here(settings: Settings) -> AsyncIterator[Here]:
    """A receiver on each database."""
    async with receiving(settings) as here:
        yield here


@pytest.fixture(scope="module")
def fuzzed(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[asyncio.AbstractEventLoop, Here]]:
    """A receiver in a thread of its own, for tests that hypothesis calls again and again."""
    loop = asyncio.new_event_loop()
    ready: queue.Queue[Here | BaseException] = queue.Queue()
    stop = asyncio.Event()

    async def serve_until_stopped() -> None:
        settings = await engine.make(tmp_path_factory.mktemp("fuzz") / "home")
        async with Store.open(settings) as store:
            await migrate(store)
        async with receiving(settings) as here:
            ready.put(here)
            await stop.wait()
        await engine.drop(settings)

    def run() -> None:
        try:
            loop.run_until_complete(serve_until_stopped())
        except BaseException as error:
            ready.put(error)

    thread = threading.Thread(target=run)
    thread.start()
    here = ready.get(timeout=60)
    if isinstance(here, BaseException):
        raise here
    yield loop, here
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()
