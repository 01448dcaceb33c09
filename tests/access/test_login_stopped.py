"""A process that ends while Makini is asked whose a login is: its pair is kept, nothing waits."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from sqlmodel import col, select

from linekeeper.access.verify import verify_logins
from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import PendingLogin
from tests.access.rotating import (
    Rotating,
    managed,
    rotating,
    rotating_server,
    with_k1,
)
from tests.access.test_kept_logins import kept, soon
from tests.access.test_writers import assert_stored_is_alive, log_in

__all__ = ["managed", "rotating", "rotating_server"]  # fixtures
AT_ONCE = 3.0
"""Seconds; a part of Linekeeper is to end within ten."""


async def _logs_in(rt: Runtime, identifier: str) -> None:
    await log_in(rt, identifier)


async def _asks_again(rt: Runtime, identifier: str) -> None:
    await verify_logins(rt, now=soon())


@pytest.mark.parametrize("work", [_logs_in, _asks_again])
async def test_a_kept_login_of_which_makini_says_nothing_holds_up_no_end(
    managed: Settings, rotating: Rotating, work: Callable[[Runtime, str], Awaitable[None]]
) -> None:
    """Universe 30796: a consumer that was told to stop waited for half an hour."""
    async with with_k1(managed, rotating) as (rt, identifier):
        if work is _asks_again:
            rotating.status_fails = 503
            assert (await log_in(rt, identifier)).is_kept
            rotating.status_fails = 0
        rotating.is_silent = True
        asked = rotating.status_calls
        task = asyncio.create_task(work(rt, identifier))
        while rotating.status_calls == asked:
            await asyncio.sleep(0.01)
        task.cancel()
        began = time.monotonic()
    assert time.monotonic() - began < AT_ONCE

    rotating.is_silent = False
    async with Runtime.open(managed) as rt:
        assert len(await kept(rt)) == 1
        async with rt.store.write() as session:
            [row] = await session.scalars(
                select(PendingLogin).where(col(PendingLogin.attempts) < 9)
            )
            row.retry_at = utcnow()
        assert await verify_logins(rt, now=soon()) == 1
        await assert_stored_is_alive(rt.store, identifier, rotating)
        assert await kept(rt) == []
