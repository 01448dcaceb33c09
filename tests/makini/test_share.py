"""Our part of what Makini allows: the rest is the product's."""

from datetime import datetime

from pydantic import SecretStr

import sandbox
from linekeeper.config import AppConfig
from linekeeper.makini import MakiniClient


class Ledger:
    """A budget that grants everything and remembers of how many calls a minute."""

    def __init__(self) -> None:
        self.limits: set[int] = set()

    async def take(
        self, app: str, per_minute: int, *, connection: str | None = None, waits: bool = True
    ) -> None:
        self.limits.add(per_minute)

    async def penalise(self, app: str, until: datetime, *, connection: str | None = None) -> None:
        raise AssertionError


async def test_calls_are_taken_from_our_share_of_the_limit() -> None:
    async with sandbox.serving(sandbox.Settings(port=0, connections=1)) as makini:
        app = AppConfig(
            api_url=makini.url,
            client_id="sandbox-client",
            client_secret=SecretStr("sandbox-secret"),
            per_minute=600,
            share=0.25,
        )
        ledger = Ledger()
        async with MakiniClient(app, budget=ledger) as client:
            await client.check()
    assert ledger.limits == {150}


def test_no_limit_has_no_share_and_a_small_one_is_never_none() -> None:
    assert AppConfig(per_minute=0, share=0.5).calls_a_minute == 0
    assert AppConfig(per_minute=3, share=0.1).calls_a_minute == 1
