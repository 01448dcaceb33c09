"""The receiver as one ASGI app."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from linekeeper.access.issue_together import TokenIssuer
from linekeeper.inbox.intake import Intake
from linekeeper.inbox.tally import Tally
from linekeeper.receiver.beat import Beat
from linekeeper.receiver.gate import Gate
from linekeeper.receiver.raw import Receive, Send
from linekeeper.receiver.site import make_site
from linekeeper.receiver.standby import Standby
from linekeeper.receiver.tokens import Tokens
from linekeeper.receiver.webhooks import PREFIX, Apps, Scope, Webhooks, observe_batch
from linekeeper.runtime import Runtime


class Receiver:
    """Routes by path; made by `open`, which also starts and ends what runs beside it."""

    def __init__(self, webhooks: Webhooks, tokens: Tokens, pages: Gate) -> None:
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
            standby = Standby(runtime)
            beside = [
                asyncio.create_task(beat.run(), name="receiver beat"),
                asyncio.create_task(standby.run(), name="receiver watch"),
            ]
            try:
                yield cls(webhooks, Tokens(issuer), Gate(make_site(runtime, beat)))
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.wait(beside)
                await beat.last()
                await standby.end()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Its path counts as it was sent: `/webhooks%2Fx` is no webhook's route."""
        if scope["raw_path"].startswith(PREFIX):
            await self._webhooks(scope, receive, send)
        elif not await self._tokens(scope, send):
            await self.pages(scope, receive, send)
