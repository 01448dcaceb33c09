"""Leases in our own database: who may do a thing, until when."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any

from sqlalchemy import ColumnElement, bindparam, case, or_, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from linekeeper.clock import monotonic
from linekeeper.groups import end_task
from linekeeper.store.engine import Store, upserting
from linekeeper.store.tables import Lease
from linekeeper.store.types import UtcDateTime, table_of

CONSUMER = "consumer"
"""Such a lease says that its subject, a consumer, is alive (`linekeeper.consumer.alive`)."""
TOKENS, READS, LOGINS = "token", "reconcile", "connect"
"""The kinds of lease that are about one thing of many: a connection, or a login's link."""


def lease_name(kind: str, subject: str | None) -> str:
    """The whole name, which is the lease's key: written and compared, and never taken apart."""
    return kind if subject is None else f"{kind}:{subject}"


def is_about_one(kind: str | None) -> bool:
    """Whether a lease of that kind is about a single thing of many."""
    return kind in (TOKENS, READS, LOGINS)


IS_CONSUMERS: ColumnElement[bool] = case(
    (col(Lease.kind).is_(None), col(Lease.name).startswith("consumer:")),
    else_=col(Lease.kind) == CONSUMER,
)
"""Whether a lease says that a consumer is alive.

One of before migration 0072 says it in its name alone, and a process of that version may take such
a one while this one takes over. Once no migration `serves` a schema before 0072 any more, the kind
is enough.
"""
_SAFE_SHARE = 0.95
"""The safe share of a lease's time: the rest lets the cancelled block end before another holds
it."""
_TROUBLE = (SQLAlchemyError, OSError, TimeoutError)
_log = logging.getLogger(__name__)


class LeaseLost(Exception):
    """The lease ended, or another owner took it over; what was done since may not be settled."""


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A lease we hold. `fence` is greater than that of every owner before us."""

    name: str
    owner: str
    fence: int


async def acquire(
    store: Store,
    kind: str,
    owner: str,
    *,
    subject: str | None = None,
    seconds: float,
    now: datetime,
    run_id: str | None = None,
) -> HeldLease | None:
    """Take the lease on `kind`, or on its `subject`, until `now + seconds`; None if another has it.

    The owner itself may take it again. A lease whose time has passed is anybody's.
    """
    name, until = lease_name(kind, subject), now + timedelta(seconds=seconds)
    given: dict[str, Any] = {"called": name, "of": kind, "about": subject}
    given |= {"by": owner, "now": now, "ends": until, "run": run_id}
    async with store.write() as session:
        result = await session.execute(_taking(is_sqlite=store.is_sqlite), given)
        taken: int | None = result.scalar_one_or_none()
    return None if taken is None else HeldLease(name, owner, taken)


async def renew(store: Store, held: HeldLease, *, seconds: float, now: datetime) -> bool:
    """Hold it until `now + seconds`; False if it was lost."""
    async with store.write() as session:
        until = now + timedelta(seconds=seconds)
        result = await session.execute(_HOLD.returning(_LEASES.c.name), _of(held, until))
        return result.scalar_one_or_none() is not None


async def release(store: Store, held: HeldLease, *, now: datetime) -> None:
    """Give it back; harmless if it was lost. The row stays, so that fences keep growing."""
    async with store.write() as session:
        await session.execute(_HOLD, _of(held, now))


_LEASES = table_of(Lease)


@cache
def _taking(*, is_sqlite: bool) -> Any:
    """The statement of `acquire`: it gives the fence where the lease is ours by it."""
    adding = upserting(Lease, is_sqlite=is_sqlite).values(
        name=bindparam("called", type_=_LEASES.c.name.type),
        kind=bindparam("of", type_=_LEASES.c.kind.type),
        subject=bindparam("about", type_=_LEASES.c.subject.type),
        owner=bindparam("by", type_=_LEASES.c.owner.type),
        until=bindparam("ends", type_=UtcDateTime),
        fence=1,
        run_id=bindparam("run", type_=_LEASES.c.run_id.type),
        run_fence=1,
    )
    new = adding.excluded
    is_free = _LEASES.c.until <= bindparam("now", type_=UtcDateTime)
    return adding.on_conflict_do_update(
        index_elements=["name"],
        set_={
            "kind": new.kind,
            "subject": new.subject,
            "owner": new.owner,
            "until": new.until,
            "fence": _LEASES.c.fence + 1,
            "run_id": new.run_id,
            "run_fence": _LEASES.c.fence + 1,
        },
        where=or_(_LEASES.c.owner == new.owner, is_free),
    ).returning(_LEASES.c.fence)


_HOLD = (
    update(_LEASES)
    .where(
        _LEASES.c.name == bindparam("called"),
        _LEASES.c.owner == bindparam("by"),
        _LEASES.c.fence == bindparam("fenced"),
    )
    .values(until=bindparam("ends", type_=UtcDateTime))
)


def _of(held: HeldLease, ends: datetime) -> dict[str, Any]:
    return {"called": held.name, "by": held.owner, "fenced": held.fence, "ends": ends}


async def is_held(store: Store, held: HeldLease) -> bool:
    """Whether nobody has taken it from us, and its time is not over."""
    async with store.read() as session:
        until = await session.scalar(_ours(col(Lease.until), held))
        return until is not None and until > await store.clock(session)


async def is_taken(store: Store, session: AsyncSession, kind: str, subject: str) -> bool:
    """Whether anybody holds the lease of that kind on `subject`."""
    is_it = col(Lease.name) == lease_name(kind, subject)
    until = await session.scalar(select(Lease.until).where(is_it))
    return until is not None and until > await store.clock(session)


async def next_holder(store: Store, held: HeldLease) -> tuple[str, str | None] | None:
    """Who took it after us, last, and the flow run that did, if one; None if nobody has."""
    is_of_it = col(Lease.run_fence) == col(Lease.fence)
    holder = select(Lease.owner, case((is_of_it, col(Lease.run_id)))).where(
        col(Lease.name) == held.name, col(Lease.fence) > held.fence
    )
    async with store.read() as session:
        row = (await session.execute(holder)).first()
        return None if row is None else (row[0], row[1])


def _ours(column: Any, held: HeldLease) -> Any:
    return select(column).where(
        col(Lease.name) == held.name,
        col(Lease.owner) == held.owner,
        col(Lease.fence) == held.fence,
    )


@asynccontextmanager
async def holding(
    store: Store,
    kind: str,
    owner: str,
    *,
    subject: str | None = None,
    seconds: float = 30,
    wait: bool = False,
    wait_seconds: float | None = None,
    run_id: str | None = None,
) -> AsyncIterator[HeldLease | None]:
    """Hold the lease on `kind`, or on its `subject`, for the block, and renew it meanwhile.

    Yields None where another holds it.

    With `wait` it keeps looking, once a second and without a lock, until the lease is free or
    `wait_seconds` (seconds) is over. The lease is renewed well before its end, and again while that
    fails. Where it is lost, or its end comes without a renewal, the block is cancelled and
    `LeaseLost` raised: from then on another may hold it. What counts is the clock of the database,
    so a machine whose own is off neither takes what others hold nor loses its own.
    """
    started = monotonic()
    asked = started
    name = lease_name(kind, subject)
    take = partial(acquire, store, kind, owner, subject=subject, seconds=seconds, run_id=run_id)
    held = await take(now=await _clock(store))
    while held is None and wait and (wait_seconds is None or monotonic() - started < wait_seconds):
        await asyncio.sleep(1)
        asked = monotonic()
        if await _looks_free(store, name, owner):
            held = await take(now=await _clock(store))
    if held is None:
        yield None
        return
    keeper = _Keeper(store, held, seconds, asked, asyncio.current_task())
    keeping = asyncio.create_task(keeper.keep(), name=f"lease {name}")
    try:
        yield held
    except asyncio.CancelledError:
        if keeper.takes_back():
            raise LeaseLost(f"the lease {name} was lost") from None
        raise
    finally:
        keeper.is_over = True
        try:
            await end_task(keeping)
        except asyncio.CancelledError:
            if not keeper.takes_back():
                raise
        finally:
            if not keeper.lost:
                with suppress(*_TROUBLE):  # it runs out by itself
                    await release(store, held, now=await _clock(store))


class _Keeper:
    """Renews a lease while its block runs, and cancels the block when the lease can't be kept."""

    def __init__(
        self,
        store: Store,
        held: HeldLease,
        seconds: float,
        asked: float,
        block: asyncio.Task[Any] | None,
    ) -> None:
        self._store = store
        self._held = held
        self._seconds = seconds
        self._ends = asked + seconds * _SAFE_SHARE
        """When the block has to end, on the monotonic clock: counted from before it was asked."""
        self._block = block
        self._cancels = block.cancelling() if block is not None else 0
        self._has_cancelled = False
        self.lost = False
        self.is_over = False
        """The block has ended: there is nothing to cancel any more."""

    def takes_back(self) -> bool:
        """Take back the cancellation of the block, if it is this one's; whether there is no other.

        Somebody else may have cancelled it as well, and is not to be overheard.
        """
        if self._block is None or not self._has_cancelled:
            return False
        self._has_cancelled = False
        return self._block.uncancel() <= self._cancels

    async def keep(self) -> None:
        pause = self._seconds / 3
        while True:
            await asyncio.sleep(max(0.0, min(pause, self._ends - monotonic())))
            kept = await self._renewed()
            if kept is False or (kept is None and monotonic() >= self._ends):
                self.lost = True
                if self._block is not None and not self.is_over:
                    self._has_cancelled = self._block.cancel()
                return
            pause = self._seconds / (3 if kept else 20)

    async def _renewed(self) -> bool | None:
        """Whether it is held on; None where the database did not say."""
        asked = monotonic()
        try:
            async with asyncio.timeout(max(self._ends - asked, 0.01)):
                now = await _clock(self._store)
                kept = await renew(self._store, self._held, seconds=self._seconds, now=now)
        except _TROUBLE as error:
            _log.warning("the lease %s was not renewed: %s", self._held.name, type(error).__name__)
            return None
        if kept:
            self._ends = asked + self._seconds * _SAFE_SHARE
        return kept


async def _looks_free(store: Store, name: str, owner: str) -> bool:
    """Whether `owner` could take it: a look that takes no lock."""
    async with store.read() as session:
        row = (await session.execute(_STANDING, {"called": name})).first()
        return row is None or row.owner == owner or row.until <= await store.clock(session)


_STANDING = select(col(Lease.owner), col(Lease.until)).where(col(Lease.name) == bindparam("called"))


async def _clock(store: Store) -> datetime:
    async with store.read() as session:
        return await store.clock(session)
