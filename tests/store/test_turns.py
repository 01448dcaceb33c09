"""Who wants the database gets it in turn, however many others of the process want it as well."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from sqlalchemy import func
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import select

from linekeeper.clock import utcnow
from linekeeper.store import Store
from linekeeper.store.leases import acquire, renew
from linekeeper.store.tables import Lease

OTHERS = 60


@asynccontextmanager
async def _others(store: Store, *, write: bool) -> AsyncIterator[list[int]]:
    """Sixty others that want it again as soon as they had it: how often each did."""
    counts = [0] * OTHERS

    async def want(number: int) -> None:
        while True:
            if write:
                await acquire(store, "other", "me", subject=str(number), seconds=30, now=utcnow())
            else:
                async with store.read() as session:
                    await session.scalar(select(Lease.name))
            counts[number] += 1
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(want(number)) for number in range(OTHERS)]
    try:
        while not any(counts):
            await asyncio.sleep(0.01)
        yield counts
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("write", [True, False], ids=["write", "read"])
async def test_a_lease_is_renewed_in_its_turn_among_sixty_that_are_busy(
    store: Store, write: bool
) -> None:
    held = await acquire(store, "sweep", "me", seconds=30, now=utcnow())
    assert held is not None
    async with _others(store, write=write) as counts:
        for _ in range(5):
            before = list(counts)
            assert await renew(store, held, seconds=30, now=utcnow())
            most = max(after - earlier for after, earlier in zip(counts, before, strict=True))
            # Each once before it, once more while it commits, and some that were under way.
            assert most <= (4 if write else 40)


async def test_who_waits_for_somebody_that_never_ends_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linekeeper.store.pool.WAIT_SECONDS", 0.1)

    async def keep_all() -> None:
        async with AsyncExitStack() as kept:
            while True:
                await kept.enter_async_context(store.write())

    with pytest.raises(SQLAlchemyError, match="no place at the database"):
        await keep_all()
    async with store.write() as session:
        assert await session.scalar(select(func.count()).select_from(Lease)) == 0
