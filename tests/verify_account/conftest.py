"""A sandbox with a personality, and Linekeeper beside it, on each database."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr
from sqlmodel import col, select

import sandbox
from linekeeper.clock import utcnow
from linekeeper.makini import TokenPair
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import Connection
from linekeeper.sweep.sweep import take_list
from linekeeper.tokens.stored import save_tokens
from linekeeper.verify_account.question import AccountAnswer
from linekeeper.verify_account.service import Verification, Wish, verify_account


@dataclass(slots=True)
class Account:
    """An operator's account, in `observe`."""

    rt: Runtime
    makini: sandbox.Served

    async def borrow_tokens(self) -> list[Connection]:
        """Access tokens of all connections, as the product would hand them over."""
        async with self.rt.store.write() as session:
            rows = list(await session.scalars(select(Connection).order_by(col(Connection.id))))
            pairs = {}
            for row in rows:
                connection = self.makini.world.find(row.makini_key)
                assert connection is not None
                pairs[row.id] = TokenPair(self.makini.world.tokens.pair(connection).access)
            await save_tokens(self.rt.store, session, pairs, now=utcnow())
        return rows

    async def verify(self, **wish: Any) -> Verification:
        said: list[str] = []
        return await verify_account(self.rt, "default", Wish(**wish), now=utcnow(), say=said.append)

    async def answers(self, **wish: Any) -> dict[str, AccountAnswer]:
        return {answer.question: answer for answer in (await self.verify(**wish)).answers}


@pytest.fixture
async def open_account(settings: Settings) -> AsyncIterator[Callable[..., Awaitable[Account]]]:
    """Opens one with the sandbox's settings given; its list is known."""
    async with AsyncExitStack() as stack:

        async def opened(**box: Any) -> Account:
            made = sandbox.Settings(port=0, **{"connections": 7, **box})
            makini = await stack.enter_async_context(sandbox.serving(made))
            ours = settings.model_copy(
                update={
                    "makini_api_url": makini.url,
                    "makini_client_id": made.client_id,
                    "makini_client_secret": SecretStr(made.client_secret),
                    "makini_per_minute": 0,
                }
            )
            rt = await stack.enter_async_context(Runtime.open(ours))
            account = Account(rt, makini)
            await take_list(rt, await rt.app("default"), now=utcnow())
            return account

        yield opened
