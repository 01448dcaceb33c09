"""Leases in our own database: who may do a thing, until when."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import or_, update
from sqlmodel import col, select

from linekeeper.store.engine import Store
from linekeeper.store.tables import Lease
from linekeeper.store.upsert import insert_ignore

CONSUMER = "consumer:"
"""Leases with such a name say that a consumer is alive (`linekeeper.consumer.alive`)."""


class LeaseLost(Exception):
    """Another owner took the lease over; what was done since may not be settled."""


@dataclass(frozen=True, slots=True)
class Held:
    """A lease we hold. `fence` is greater than that of every owner before us."""

    name: str
    owner: str
    fence: int


async def acquire(
    store: Store, name: str, owner: str, *, seconds: float, now: datetime
) -> Held | None:
    """Take the lease `name` until `now + seconds`; None if another owner holds it.

    The owner itself may take it again. A lease whose time has passed is anybody's.
    """
    until = now + timedelta(seconds=seconds)
    async with store.write() as session:
        await insert_ignore(
            store, session, Lease, [{"name": name, "owner": owner, "until": now, "fence": 0}]
        )
        taken = (
            await session.execute(
                update(Lease)
                .where(
                    col(Lease.name) == name,
                    or_(col(Lease.owner) == owner, col(Lease.until) <= now),
                )
                .values(owner=owner, until=until, fence=col(Lease.fence) + 1)
                .returning(col(Lease.fence))
            )
        ).scalar_one_or_none()
    return None if taken is None else Held(name, owner, taken)


async def renew(store: Store, held: Held, *, seconds: float, now: datetime) -> bool:
    """Hold it until `now + seconds`; False if it was lost."""
    async with store.write() as session:
        result = await session.execute(
            update(Lease)
            .where(
                col(Lease.name) == held.name,
                col(Lease.owner) == held.owner,
                col(Lease.fence) == held.fence,
            )
            .values(until=now + timedelta(seconds=seconds))
            .returning(col(Lease.name))
        )
        return result.scalar_one_or_none() is not None


async def release(store: Store, held: Held, *, now: datetime) -> None:
    """Give it back; harmless if it was lost. The row stays, so that fences keep growing."""
    async with store.write() as session:
        await session.execute(
            update(Lease)
            .where(
                col(Lease.name) == held.name,
                col(Lease.owner) == held.owner,
                col(Lease.fence) == held.fence,
            )
            .values(until=now)
        )


async def holder(store: Store, name: str, *, now: datetime) -> str | None:
    """Who holds `name` at `now`; None if nobody does."""
    async with store.read() as session:
        return await session.scalar(
            select(Lease.owner).where(col(Lease.name) == name, col(Lease.until) > now)
        )


@asynccontextmanager
async def holding(
    store: Store, name: str, owner: str, *, seconds: float = 30, wait: bool = False
) -> AsyncIterator[Held | None]:
    """Hold `name` for the block and renew it meanwhile; yields None where another holds it.

    With `wait` it keeps asking, once a second, until the lease is free. If the lease is lost while
    the block runs, the block is cancelled and `LeaseLost` raised. What counts is the clock of the
    database, so a machine whose own is off neither takes what others hold nor loses its own.
    """
    held = await acquire(store, name, owner, seconds=seconds, now=await _clock(store))
    while held is None and wait:
        await asyncio.sleep(1)
        held = await acquire(store, name, owner, seconds=seconds, now=await _clock(store))
    if held is None:
        yield None
        return
    task = asyncio.current_task()
    lost = False

    async def keep() -> None:
        nonlocal lost
        while True:
            await asyncio.sleep(seconds / 3)
            if not await renew(store, held, seconds=seconds, now=await _clock(store)):
                lost = True
                if task is not None:
                    task.cancel()
                return

    keeper = asyncio.create_task(keep())
    try:
        yield held
    except asyncio.CancelledError:
        if lost:
            if task is not None:
                task.uncancel()
            raise LeaseLost(f"the lease {name} was taken over") from None
        raise
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper
        if not lost:
            await release(store, held, now=await _clock(store))


async def _clock(store: Store) -> datetime:
    async with store.read() as session:
        return await store.clock(session)
