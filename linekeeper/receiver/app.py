"""The receiver as one ASGI app."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from linekeeper.access.issue_together import TokenIssuer
from linekeeper.inbox.intake import Intake
from linekeeper.inbox.tally import Tally
from linekeeper.receiver import (
    api,
    callback,
    canary,
    connect,
    customer_page,
    explain,
    mode,
    openapi,
    pages,
    paste,
    prefect_alerts,
    slack_actions,
)
from linekeeper.receiver.away import storage_down
from linekeeper.receiver.beat import Beat
from linekeeper.receiver.follow_ups import FollowUps
from linekeeper.receiver.gate import RequestLimit
from linekeeper.receiver.protocol import Receive, Scope, Send
from linekeeper.receiver.standby import Standby
from linekeeper.receiver.tokens import Tokens
from linekeeper.receiver.webhooks import PREFIX, Apps, Webhooks, observe_batch
from linekeeper.runtime import Runtime
from linekeeper.store import KeyProblem
from linekeeper.store.leases import LeaseLost


class Receiver:
    """Routes by path; made by `open`, which also starts and ends what runs beside it."""

    def __init__(self, webhooks: Webhooks, tokens: Tokens, pages: RequestLimit) -> None:
        self._webhooks = webhooks
        self._tokens = tokens
        self.pages = pages

    @classmethod
    @asynccontextmanager
    async def open(cls, runtime: Runtime) -> AsyncIterator[Self]:
        """A receiver on `runtime`. Raises if its configuration can't be read even once."""
        apps, tally = Apps(), Tally()
        await apps.refresh(runtime.store, runtime.settings)
        beat = Beat(runtime, apps, tally)
        async with (
            Intake.open(runtime.store, observe_batch) as intake,
            TokenIssuer(runtime.store) as issuer,
        ):
            webhooks = Webhooks(apps, intake, tally, max_body_bytes=runtime.settings.max_body_bytes)
            standby, follow_ups = Standby(runtime), FollowUps(runtime)
            beside = [
                asyncio.create_task(beat.run(), name="receiver beat"),
                asyncio.create_task(standby.run(), name="receiver watch"),
            ]
            site = make_site(runtime, beat, follow_ups)
            try:
                yield cls(webhooks, Tokens(issuer), RequestLimit(site))
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.wait(beside)
                await follow_ups.end()
                await beat.last()
                await standby.end()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Its path counts as it was sent: `/webhooks%2Fx` is no webhook's route."""
        if scope["raw_path"].startswith(PREFIX):
            await self._webhooks(scope, receive, send)
        elif not await self._tokens(scope, send):
            await self.pages(scope, receive, send)


log = logging.getLogger(__name__)

_STORAGE = (SQLAlchemyError, OSError, KeyProblem, LeaseLost)
"""What comes of a database in trouble: to connect to one that is down fails with an `OSError`,
which a `TimeoutError` is too."""


def make_site(runtime: Runtime, beat: Beat, follow_ups: FollowUps) -> Starlette:
    """The pages and the product's API on `runtime`, which handlers find as `app.state.runtime`."""
    site = Starlette(
        routes=[
            *pages.routes(beat, runtime),
            *api.ROUTES,
            *explain.ROUTES,
            *mode.ROUTES,
            *canary.ROUTES,
            *openapi.ROUTES,
            *connect.ROUTES,
            *customer_page.ROUTES,
            *callback.ROUTES,
            *slack_actions.ROUTES,
            *prefect_alerts.ROUTES,
            *paste.ROUTES,
        ],
        exception_handlers={
            HTTPException: _refused,
            **dict.fromkeys(_STORAGE, _storage_down),
        },
    )
    # A redirect would be made of the request's Host, which may be anything.
    site.router.redirect_slashes = False
    site.state.runtime = runtime
    site.state.feed_reads = beat.feed_reads
    site.state.follow_ups = follow_ups
    return site


async def _refused(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    return JSONResponse(
        {"error": problem.detail}, status_code=problem.status_code, headers=problem.headers
    )


async def _storage_down(request: Request, problem: Exception) -> Response:
    # Only the kind of error: a driver's message may quote values.
    path: str = request.scope["path"]
    log.error("receiver: %s: %s", path[1:].partition("/")[0][:20], type(problem).__name__)
    return storage_down(request.scope)
