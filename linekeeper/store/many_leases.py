"""Many leases of one kind, taken, renewed and given back in one statement each."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col

from linekeeper.clock import monotonic
from linekeeper.groups import end_task
from linekeeper.store.engine import Store, upserting
from linekeeper.store.leases import lease_name
from linekeeper.store.lists import one_of, update_many
from linekeeper.store.tables import Lease

SECONDS = 60.0
_UNSAFE_SHARE = 0.1
"""The last part of a lease's time: what it covers has ended before another may begin."""


class ManyLeases:
    """The leases of one kind that one owner holds, each on one id. `owner` is one run's alone.

    `purpose` tells others what the owner holds them for.
    """

    def __init__(self, store: Store, kind: str, owner: str, purpose: str) -> None:
        self._store = store
        self._kind = kind
        self._owner = owner
        self._purpose = purpose
        self.held: set[str] = set()
        self._covered: dict[str, asyncio.Task[Any]] = {}
        self._ends = monotonic() + SECONDS
        """When another may hold what was last renewed."""

    def cover(self, identifier: str, task: asyncio.Task[Any]) -> None:
        """Cancel `task` once `identifier` isn't held any more: two never work on it at once."""
        self._covered[identifier] = task
        if identifier not in self.held:
            task.cancel()

    async def take(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that nobody else holds, in their order; held from now on."""
        if not ids:
            return []
        if not self.held:
            self._ends = monotonic() + SECONDS
        async with self._store.write() as session:
            now = await self._store.clock(session)
            taken = set(await session.scalars(self._taking(ids, now=now)))
        self.held |= taken
        return [identifier for identifier in ids if identifier in taken]

    async def taken_for(self, purpose: str, ids: Sequence[str]) -> set[str]:
        """Those of `ids` that somebody holds for `purpose`."""
        names = {lease_name(self._kind, identifier): identifier for identifier in ids}
        async with self._store.read() as session:
            taken = await session.scalars(
                select(col(Lease.name)).where(
                    self._named(ids),
                    col(Lease.purpose) == purpose,
                    col(Lease.until) > await self._store.clock(session),
                )
            )
            return {names[name] for name in taken}

    async def release(self, ids: Sequence[str]) -> None:
        """Others may take `ids` again."""
        self.held -= set(ids)
        for identifier in ids:
            self._covered.pop(identifier, None)
        async with self._store.write() as session:
            now = await self._store.clock(session)
            await session.execute(self._of(ids).values(until=now))

    async def renew(self) -> None:
        """Hold on to what is held; work on what another owner took over is cancelled.

        So is everything, where it could not be renewed until its end.
        """
        if not self.held:
            return
        asked, asking = monotonic(), sorted(self.held)
        safe_until = self._ends - SECONDS * _UNSAFE_SHARE
        try:
            async with asyncio.timeout(max(0.01, safe_until - asked)):
                async with self._store.write() as session:
                    until = await self._store.clock(session) + timedelta(seconds=SECONDS)
                    renewing = self._of(asking).values(until=until).returning(col(Lease.subject))
                    kept = set(await session.scalars(renewing))
        except (SQLAlchemyError, OSError, TimeoutError):
            if monotonic() >= safe_until:
                self._lose(asking)
            return
        self._ends = asked + SECONDS
        self._lose(self.held.intersection(asking) - kept)

    def _lose(self, ids: Collection[str]) -> None:
        self.held -= set(ids)
        for identifier in ids:
            task = self._covered.pop(identifier, None)
            if task is not None:
                task.cancel()

    def _taking(self, ids: Sequence[str], *, now: datetime) -> Any:
        until = now + timedelta(seconds=SECONDS)
        adding = upserting(Lease, is_sqlite=self._store.is_sqlite).values(
            [
                {
                    "name": lease_name(self._kind, identifier),
                    "kind": self._kind,
                    "subject": identifier,
                    "owner": self._owner,
                    "purpose": self._purpose,
                    "until": until,
                    "fence": 1,
                }
                for identifier in sorted(ids)
            ]
        )
        new = adding.excluded
        return adding.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "kind": new.kind,
                "subject": new.subject,
                "owner": new.owner,
                "purpose": new.purpose,
                "until": new.until,
                "fence": col(Lease.fence) + 1,
            },
            where=or_(col(Lease.until) <= now, col(Lease.owner) == self._owner),
        ).returning(col(Lease.subject))

    def _of(self, ids: Sequence[str]) -> Any:
        return update_many(Lease).where(self._named(ids), col(Lease.owner) == self._owner)

    def _named(self, ids: Sequence[str]) -> Any:
        names = [lease_name(self._kind, identifier) for identifier in ids]
        return one_of(self._store, Lease.name, names)


@asynccontextmanager
async def holding_many(
    store: Store, kind: str, owner: str, *, purpose: str
) -> AsyncIterator[ManyLeases]:
    """Leases that are taken in the block, renewed meanwhile, and given back after it."""
    leases = ManyLeases(store, kind, owner, purpose)
    keeper = asyncio.create_task(_every(SECONDS / 6, leases.renew))
    try:
        yield leases
    finally:
        try:
            await end_task(keeper)
        finally:
            if leases.held:
                with suppress(SQLAlchemyError, OSError):  # they run out by themselves
                    await leases.release(sorted(leases.held))


async def _every(seconds: float, step: Callable[[], Any]) -> None:
    while True:
        await asyncio.sleep(seconds)
        with suppress(Exception):  # a lease outlives two renewals that are missed
            await step()
