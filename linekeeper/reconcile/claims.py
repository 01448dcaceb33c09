"""Who reads which connection: leases taken, kept and given back many at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col

from linekeeper.clock import monotonic
from linekeeper.groups import end_task
from linekeeper.reconcile.queries import one_of
from linekeeper.store import Store
from linekeeper.store.tables import Lease

SECONDS = 60.0
_UNSAFE_SHARE = 0.1
"""The last part of a lease's time: reading has ended before another may begin."""
_PREFIX = "reconcile:"
_LONG = "full"


class Claims:
    """The connections this run may read. `owner` is this run's alone.

    `pace` is the pass it is in.
    """

    def __init__(self, store: Store, owner: str, pace: str) -> None:
        self._store = store
        self._owner = f"{pace}|{owner}"
        self._pace = pace
        self.held: set[str] = set()
        self._covered: dict[str, asyncio.Task[Any]] = {}
        self._ends = monotonic() + SECONDS
        """When another may hold what was last renewed."""

    def cover(self, connection_id: str, task: asyncio.Task[Any]) -> None:
        """Cancel `task` once `connection_id` isn't held any more: two never read it at once."""
        self._covered[connection_id] = task
        if connection_id not in self.held:
            task.cancel()

    def _lose(self, ids: Collection[str]) -> None:
        self.held -= set(ids)
        for connection_id in ids:
            task = self._covered.pop(connection_id, None)
            if task is not None:
                task.cancel()

    async def take(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that nobody else holds, in their order; held from now on."""
        if not ids:
            return []
        if not self.held:
            self._ends = monotonic() + SECONDS
        async with self._store.write() as session:
            now = await self._store.clock(session)
            taken = {
                name.removeprefix(_PREFIX)
                for name in await session.scalars(self._taking(ids, now=now))
            }
        self.held |= taken
        return [identifier for identifier in ids if identifier in taken]

    async def busy(self, ids: Sequence[str]) -> set[str]:
        """Those of `ids` that somebody is listing whole, which may take hours: only who wants to
        list them too waits for that."""
        if self._pace == _LONG:
            return set()
        async with self._store.read() as session:
            rows = await session.execute(
                select(col(Lease.name), col(Lease.owner)).where(
                    one_of(self._store, Lease.name, [_PREFIX + identifier for identifier in ids]),
                    col(Lease.until) > await self._store.clock(session),
                )
            )
            return {
                name.removeprefix(_PREFIX)
                for name, owner in rows
                if owner.partition("|")[0] == _LONG
            }

    async def release_claims(self, ids: Sequence[str]) -> None:
        """Others may read `ids` again."""
        self.held -= set(ids)
        for connection_id in ids:
            self._covered.pop(connection_id, None)
        async with self._store.write() as session:
            now = await self._store.clock(session)
            await session.execute(self._of(ids).values(until=now))

    async def renew(self) -> None:
        """Hold on to what is held; reading what another run took over is cancelled.

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
                    names = await session.scalars(
                        self._of(asking).values(until=until).returning(col(Lease.name))
                    )
                    kept = {name.removeprefix(_PREFIX) for name in names}
        except (SQLAlchemyError, OSError, TimeoutError):
            if monotonic() >= safe_until:
                self._lose(asking)
            return
        self._ends = asked + SECONDS
        self._lose(
            [
                connection_id
                for connection_id in asking
                if connection_id not in kept and connection_id in self.held
            ]
        )

    def _taking(self, ids: Sequence[str], *, now: datetime) -> Any:
        dialect: Any = sqlite if self._store.is_sqlite else postgresql
        statement = dialect.insert(Lease).values(
            [
                {
                    "name": _PREFIX + identifier,
                    "owner": self._owner,
                    "until": now + timedelta(seconds=SECONDS),
                    "fence": 1,
                }
                for identifier in sorted(ids)
            ]
        )
        return statement.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "owner": statement.excluded.owner,
                "until": statement.excluded.until,
                "fence": col(Lease.fence) + 1,
            },
            where=or_(col(Lease.until) <= now, col(Lease.owner) == self._owner),
        ).returning(col(Lease.name))

    def _of(self, ids: Sequence[str]) -> Any:
        return (
            update(Lease)
            .where(
                one_of(self._store, Lease.name, [_PREFIX + identifier for identifier in ids]),
                col(Lease.owner) == self._owner,
            )
            .execution_options(synchronize_session=False)
        )


@asynccontextmanager
async def claiming(store: Store, owner: str, pace: str) -> AsyncIterator[Claims]:
    """Claims that are kept for the block and given back after it."""
    claims = Claims(store, owner, pace)
    keeper = asyncio.create_task(_every(SECONDS / 6, claims.renew))
    try:
        yield claims
    finally:
        try:
            await end_task(keeper)
        finally:
            if claims.held:
                with suppress(SQLAlchemyError, OSError):  # they run out by themselves
                    await claims.release_claims(sorted(claims.held))


async def _every(seconds: float, step: Callable[[], Any]) -> None:
    while True:
        await asyncio.sleep(seconds)
        with suppress(Exception):  # the lease outlives two missed renewals
            await step()
