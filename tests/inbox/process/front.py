"""What stands between us and a Makini: a real HTTP server that hands on, or answers itself."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from linekeeper.runtime import Runtime
from tests.inbox.process.product import serving
from tests.inbox.process.stage import Stage


@dataclass
class Front:
    """Hands on to `behind` what no `answer` is given to."""

    upstream: str
    answer: Callable[[str], Response | None] = lambda _: None
    """By the last part of the path."""
    last_filter_only: bool = False
    """Of several `filter[key]` only the last counts, as in PHP."""
    singles: list[str] = field(default_factory=list)
    """The keys read alone, in order."""
    paths: list[str] = field(default_factory=list)
    """What was asked for, in order."""
    open_for: int | None = None
    """How many single records it answers before it is silent; None: all."""
    hangs: Callable[[str], bool] = lambda _: False
    """By the last part of the path: it is not answered before the end."""
    held_open: int = 0
    """Requests that hang now."""
    client: httpx.AsyncClient = field(default_factory=httpx.AsyncClient)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: Request) -> Response:
        path, query = request.url.path, request.query_params.multi_items()
        last = path.rpartition("/")[2]
        self.paths.append(path)
        if self.hangs(last):
            self.held_open += 1
            await self.ended.wait()
            self.held_open -= 1
            return Response(status_code=503)
        if path.startswith("/api/eam/") and path.count("/") == 4:
            if self.open_for is not None and len(self.singles) >= self.open_for:
                await self.ended.wait()
                return Response(status_code=503)
            self.singles.append(last)
        if self.last_filter_only:
            query = list(dict(query).items())
        if (own := self.answer(last)) is not None:
            return own
        headers = {"authorization": request.headers.get("authorization", "")}
        answer = await self.client.request(
            request.method,
            self.upstream + request.scope["raw_path"].decode(),
            params=query,
            content=await request.body(),
            headers=headers | {"content-type": request.headers.get("content-type", "")},
        )
        return Response(answer.content, answer.status_code, media_type="application/json")


@asynccontextmanager
async def fronted(stage: Stage, front: Front) -> AsyncIterator[Stage]:
    """The same stage, its Makini seen through `front`."""
    app = Starlette(routes=[Route("/{path:path}", front.handle, methods=["GET", "POST", "DELETE"])])
    async with front.client, serving(app) as url:
        settings = stage.rt.settings.model_copy(update={"makini_api_url": url})
        try:
            async with Runtime.open(settings) as rt:
                yield await Stage.set(rt, stage.fleet, stage.product)
        finally:
            front.ended.set()
