"""The connection on which a token is minted is held for the calls alone, not while they wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from linekeeper.clock import utcnow
from linekeeper.makini.budget import NothingLeft
from linekeeper.runtime import Runtime
from linekeeper.store.leases import TOKENS, is_taken
from linekeeper.verify_account.service import Wish, verify_account
from tests.verify_account.conftest import Account

FEW = 60


async def test_minting_waits_for_its_calls_without_the_connections_lease(
    open_account: Callable[..., Awaitable[Account]],
) -> None:
    account = await open_account()
    [first, *_] = await account.borrow_tokens()
    await account.verify()
    few = account.rt.settings.model_copy(update={"makini_per_minute": FEW})
    async with Runtime.open(few) as rt:
        with suppress(NothingLeft):
            while True:
                await rt.budget.take("default", FEW, waits=False)
        wish = Wish(write_on=first.makini_key, confirm=first.makini_key)
        began = time.monotonic()
        minting = asyncio.create_task(
            verify_account(rt, "default", wish, now=utcnow(), say=lambda _: None)
        )
        held = 0.0
        while not minting.done():
            looked = time.monotonic()
            async with rt.store.read() as session:
                is_held = await is_taken(rt.store, session, TOKENS, first.id)
            await asyncio.sleep(0.02)
            held += is_held * (time.monotonic() - looked)
        assert (await minting).complete
    whole = time.monotonic() - began
    assert whole > 4.0  # five calls, of which there is one a second
    assert held < whole / 2
    minted = account.makini.world.calls["POST", "/api/system/connections/{key}/token"]
    assert minted == 1
