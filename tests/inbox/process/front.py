"""What stands between us and a Makini: a real HTTP server that hands on, or answers itself."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

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

    behind: str
    answer: Callable[[str], Response | None] = lambda _: None
    """By the last part of the path."""

    async def handle(self, request: Request) -> Response:
        if (own := self.answer(request.url.path.rpartition("/")[2])) is not None:
            return own
        headers = {"authorization": request.headers.get("authorization", "")}
        async with httpx.AsyncClient(base_url=self.behind) as client:
            answer = await client.request(
                request.method,
                request.scope["raw_path"].decode(),
                params=request.query_params.multi_items(),
                content=await request.body(),
                headers=headers | {"content-type": request.headers.get("content-type", "")},
            )
        return Response(answer.content, answer.status_code, media_type="application/json")


@asynccontextmanager
async def fronted(stage: Stage, front: Front) -> AsyncIterator[Stage]:
    """The same stage, its Makini seen through `front`."""
    app = Starlette(routes=[Route("/{path:path}", front.handle, methods=["GET", "POST", "DELETE"])])
    async with serving(app) as url:
        behind = stage.rt.settings.model_copy(update={"makini_api_url": url})
        async with Runtime.open(behind) as rt:
            yield await Stage.set(rt, stage.fleet, stage.product)
