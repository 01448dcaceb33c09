"""The operator's product, as far as webhooks go: a real HTTP server that verifies and remembers."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from linekeeper.inbox.verify import Accepted, Verifier

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Product:
    """What came in, in order; `answers` are given first, then 200."""

    url: str = ""
    taken: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Id and body of what was answered with 200."""
    refused: list[str] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)
    """Ids that are answered with 422, however often they come."""
    unverified: int = 0
    wait: float = 0.0
    """Seconds before each answer."""
    says: bytes = b""
    """The body of each answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = dict(scope["headers"])
        verdict = Verifier("standard", [SECRET]).verify(headers, body, now=time.time())
        self.unverified += not isinstance(verdict, Accepted)
        status = self.answers.pop(0) if self.answers else 200
        identity = headers[b"webhook-id"].decode()
        if identity in self.refuses:
            status = 422
        if status == 200:
            self.taken.append((identity, json.loads(body)))
            self.raw.append(body)
        else:
            self.refused.append(identity)
        await asyncio.sleep(self.wait)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": self.says})


@asynccontextmanager
async def listening() -> AsyncIterator[Product]:
    """A product on a port of the system's choice."""
    product = Product()
    async with serving(product) as url:
        product.url = f"{url}/hooks"
        yield product


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI app in this event loop; its address."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="error", lifespan="off", access_log=False)
    )
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
