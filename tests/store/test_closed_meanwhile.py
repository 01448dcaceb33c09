"""Whenever a store is closed while somebody is at work in it, no connection stays open.

As a watch that is cancelled while it waits for the database, and is not waited for; or a task that
stores what must not be lost, though whoever began it is gone.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import event, text

from linekeeper.settings import Settings
from linekeeper.store import Store
from tests.cancelling import DoneMeanwhile


async def reads(store: Store) -> None:
    async with store.read() as session:
        await session.execute(text("SELECT 1"))


async def writes(store: Store) -> None:
    async with store.write() as session:
        await session.execute(text("DELETE FROM lease"))


@asynccontextmanager
async def opened(settings: Settings, pool: int, made: list[Any]) -> AsyncIterator[Store]:
    """A store that has had a connection already; the drivers of all that it makes go to `made`."""
    store = Store.open(settings.model_copy(update={"database_pool": pool}))
    event.listen(store.engine.sync_engine, "connect", lambda driver, _: made.append(driver))
    await reads(store)
    yield store
    await store.close()


async def end_those_left(store: Store, made: list[Any]) -> int:
    """How many of `made` are open; afterwards none is."""
    if store.is_sqlite:
        left = [each._connection for each in made if each._connection._connection is not None]
    else:
        left = [each._connection for each in made if not each._connection.is_closed()]
    for connection in left:  # else the garbage collector ends them, in another test
        await connection.close()
    return len(left)


@pytest.mark.parametrize("pool", [4, 20])  # of the smaller none is kept out of the pool
@pytest.mark.parametrize("work", [reads, writes])
async def test_whenever_a_store_is_closed_who_is_at_work_leaves_nothing_open(
    settings: Settings, work: Callable[[Store], Coroutine[Any, Any, None]], pool: int
) -> None:
    async def waits_and_left(closed_at: int, cancelled_at: int | None) -> tuple[int, int]:
        made: list[Any] = []
        async with opened(settings, pool, made) as store:
            working = DoneMeanwhile(work(store), store.close, closed_at, cancelled_at)

            async def at_work() -> None:
                await working

            await asyncio.gather(asyncio.create_task(at_work()), return_exceptions=True)
        return working.waits, await end_those_left(store, made)

    most, cases = 1, 0
    for cancelled_at in (None, *range(1, 20)):
        if cancelled_at is not None and cancelled_at > most:
            break
        closed_at = cancelled_at or 1
        while closed_at <= most:
            waits, left = await waits_and_left(closed_at, cancelled_at)
            assert left == 0, (closed_at, cancelled_at)
            most, closed_at, cases = max(most, waits), closed_at + 1, cases + 1
    assert cases > 1 or work is reads
