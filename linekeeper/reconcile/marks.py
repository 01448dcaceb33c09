"""Watermarks in the database."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, bindparam, case, func, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.makini import ListingFault
from linekeeper.reconcile.partitions import Partition
from linekeeper.reconcile.policy import POLICY
from linekeeper.store import Store
from linekeeper.store.engine import insert_or_update
from linekeeper.store.tables import Record, Watermark
from linekeeper.store.types import UtcDateTime, table_of

GONE_AFTER = timedelta(days=1)
"""What was read before is given up once it was answered with 404 for this long."""
WELL: Mapping[str, Any] = {
    "error": None,
    "failure": None,
    "failures": 0,
    "failing_since": None,
    "retry_at": None,
    "not_found_since": None,
}
"""What a watermark holds after an attempt that did not fail."""


_READ_AT = ("polled_at", "run_at", "moved_at", "full_at")
SLACK = timedelta(minutes=1)
"""Clocks that are corrected by less are left alone."""


async def load_marks(store: Store, connection_id: str) -> dict[str, Watermark]:
    """How far each entity has been read that somebody tried."""
    async with store.read() as session:
        return await marks_of(session, connection_id)


async def marks_of(session: AsyncSession, connection_id: str) -> dict[str, Watermark]:
    """The same, within a transaction."""
    rows = await session.scalars(_MARKS, {"whose": connection_id})
    return {row.entity: row for row in rows}


_MARKS = select(Watermark).where(col(Watermark.connection_id) == bindparam("whose"))


async def save_mark(
    store: Store, session: AsyncSession, connection_id: str, entity: str, **values: Any
) -> None:
    """Set `values` of the watermark, made if there is none.

    What was read while this machine's clock was ahead, and is written once it is right, counts as
    read now: else nothing would be read until then.
    """
    latest = utcnow() + SLACK
    ahead = [name for name in _READ_AT if (at := values.get(name)) is not None and at > latest]
    values |= dict.fromkeys(ahead, latest - SLACK)
    row = {
        "connection_id": connection_id, "entity": entity,
        "offered": True, "filtered": True, "failures": 0, "inconsistent": 0, "lacking": 0,
    }  # fmt: skip
    await insert_or_update(
        store,
        session,
        Watermark,
        [{**row, **values}],
        key=["connection_id", "entity"],
        update=list(values),
    )


def compared(
    mark: Watermark | None,
    started: datetime,
    listed: int,
    total: int | None,
    *,
    inconsistent: bool,
) -> dict[str, Any]:
    """What a whole listing that `started` then says beside the source's own total. Pure.

    One that is `inconsistent` proves nothing gone; where more came than the total says, it does.
    """
    values: dict[str, Any] = {
        "listed": listed, "source_total": total, "inconsistent": 0, "broken_off": None,
    }  # fmt: skip
    if total is not None and listed != total:
        before = mark.inconsistent if mark is not None else 0
        values["inconsistent"] = before + 1
        values["confirm_at"] = started + POLICY.after_inconsistent(before)
    if inconsistent:
        values["full_at"] = started
    return values


async def note_broken_off(
    store: Store,
    connection_id: str,
    entity: str,
    mark: Watermark | None,
    fault: ListingFault,
    *,
    started: datetime,
    position: datetime | None,
    listed: int,
    total: int | None,
) -> Watermark:
    """The whole listing that `started` then broke off: it is made again later, as one that is
    inconsistent, and proves nothing meanwhile. What changed is asked for from `position` on, where
    no listing had proved another one; a first listing is still to come. Returns what is known of
    the entity now."""
    before = mark.inconsistent if mark is not None else 0
    values = compared(mark, started, listed, total, inconsistent=True)
    values |= {"inconsistent": before + 1, "broken_off": fault.value}
    again = values.pop("confirm_at", None) or started + POLICY.after_inconsistent(before)
    if mark is None or mark.position is None:
        values |= {"position": position, "moved_at": started}
    if mark is None or mark.full_at is None:
        values["full_at"] = None
    async with store.write() as session:
        await save_mark(store, session, connection_id, entity, **values)
        known = [confirm_at_of(mark)]
        await set_confirm_at(session, (connection_id, entity), again, known=known)
    await note_compared(store, connection_id, entity, mark, started=started, total=total)
    async with store.read() as session:
        return await session.get_one(Watermark, (connection_id, entity))


async def note_compared(
    store: Store,
    connection_id: str,
    entity: str,
    mark: Watermark | None,
    *,
    started: datetime,
    total: int | None,
    deleted: int = 0,
    indexed: int | None = None,
    keyless: bool = False,
) -> None:
    """Keep how many records are here, right after the whole listing that `started` then: `indexed`,
    where somebody has just counted them. `deleted` are those that were listed as such.

    Where as many were listed as there are and fewer are here, some have no key to be kept by, or
    share one; `keyless` says that some were listed without a key.
    """
    if indexed is None:
        # Counted before the transaction that writes, which holds SQLite's one lock.
        indexed = await count_live(store, (connection_id, entity))
    values: dict[str, Any] = {"indexed": indexed, "compared_at": started}
    comparable = total is not None and deleted == 0 and not keyless
    values["count_base"] = total - indexed if total is not None and comparable else None
    values["count_difference"] = None
    if total is not None and values["indexed"] == total:
        values["agreed_at"] = started
    lacks = keyless or (total is not None and values["indexed"] < total)
    values["lacking"] = ((mark.lacking if mark is not None else 0) + 1) if lacks else 0
    async with store.write() as session:
        await save_mark(store, session, connection_id, entity, **values)


async def count_live(store: Store, partition: Partition) -> int:
    """How many live records of `partition` are in the index."""
    async with store.read() as session:
        return await session.scalar(_INDEXED, {"whose": partition[0], "entity": partition[1]}) or 0


_INDEXED = select(func.count()).where(
    col(Record.connection_id) == bindparam("whose"),
    col(Record.entity) == bindparam("entity"),
    col(Record.deleted_at).is_(None),
)


def grain_of(mark: Watermark | None) -> timedelta | None:
    """How coarse the source's clock is, as far as that was learned."""
    known = mark.grain_seconds if mark is not None else None
    return timedelta(seconds=known) if known is not None else None


def filter_refused_at(mark: Watermark | None, now: datetime) -> datetime | None:
    """When the source refused the time filter; None where it is to be asked for what changed."""
    if mark is None or mark.filtered:
        return None
    refused_at = mark.filter_refused_at
    return refused_at if refused_at is not None and now - refused_at < POLICY.refilter else None


async def note_not_offered(
    store: Store, connection_id: str, entity: str, mark: Watermark | None, *, now: datetime
) -> None:
    """This system doesn't have `entity`, or not yet: asked again ever less often."""
    since = not_found_since(mark, now)
    values = {
        **WELL, "offered": False, "polled_at": now, "full_at": now, "not_found_since": since,
    }  # fmt: skip
    again = now + POLICY.offered_after(now - since)
    async with store.write() as session:
        await save_mark(store, session, connection_id, entity, **values)
        await set_confirm_at(session, (connection_id, entity), again, known=[confirm_at_of(mark)])


def confirm_at_of(mark: Watermark | None) -> datetime | None:
    """When the entity was to be listed again, as `mark` has it."""
    return mark.confirm_at if mark is not None else None


async def set_confirm_at(
    session: AsyncSession,
    partition: Partition,
    at: datetime | None,
    *,
    known: Iterable[datetime | None],
) -> None:
    """List `partition` whole again at `at`, or when it is due anyway.

    `known` are the times that the reading which says so found or set itself. Any other was set by
    somebody who asked meanwhile, and stays: this reading may not have seen what they had.
    """
    times = [time for time in known if time is not None]
    given = {"whose": partition[0], "what": partition[1], "times": times, "again": at}
    await session.execute(_CONFIRM, given)


async def ask_again(
    session: AsyncSession, partitions: Iterable[Partition], *, now: datetime
) -> None:
    """Have the next poll ask for `partitions`, of which a record was just read, though they count
    as not offered or wait after a failure."""
    await session.execute(_ASK_AGAIN.where(_is_one_of(partitions)), {"now": now})


async def list_whole(
    session: AsyncSession, partitions: Iterable[Partition], *, now: datetime
) -> None:
    """Have the next poll list `partitions` whole, whatever they count as."""
    await session.execute(_LIST_WHOLE.where(_is_one_of(partitions)), {"now": now})


def _is_one_of(partitions: Iterable[Partition]) -> ColumnElement[bool]:
    return tuple_(_KEPT.c.connection_id, _KEPT.c.entity).in_(sorted(partitions))


_KEPT = table_of(Watermark)
_NOW: Any = bindparam("now", type_=UtcDateTime)
_MISSING, _WAITS = _KEPT.c.offered.is_(False), _KEPT.c.retry_at > _NOW
_LIST_WHOLE = update(_KEPT).values(confirm_at=_NOW)
_ASK_AGAIN = (
    update(_KEPT)
    .where(or_(_MISSING, _WAITS))
    .values(
        confirm_at=case((_MISSING, _NOW), else_=_KEPT.c.confirm_at),
        retry_at=case((_WAITS, _NOW), else_=_KEPT.c.retry_at),
    )
)
_CONFIRM = (
    update(_KEPT)
    .where(
        _KEPT.c.connection_id == bindparam("whose"),
        _KEPT.c.entity == bindparam("what"),
        or_(
            _KEPT.c.confirm_at.is_(None),
            _KEPT.c.confirm_at.in_(bindparam("times", expanding=True)),
        ),
    )
    .values(confirm_at=bindparam("again", type_=UtcDateTime))
)


async def is_known(store: Store, connection_id: str, entity: str) -> bool:
    """Whether any record of `entity` is in the index, deleted ones too."""
    async with store.read() as session:
        known = await session.scalar(
            select(col(Record.key))
            .where(col(Record.connection_id) == connection_id, col(Record.entity) == entity)
            .limit(1)
        )
    return known is not None


async def is_offered(
    store: Store, connection_id: str, entity: str, mark: Watermark | None, *, now: datetime
) -> bool:
    """Whether to take a 404 for a failure: what was read before isn't gone by one answer."""
    if mark is not None and not mark.offered:
        return False
    if mark is not None and now - not_found_since(mark, now) >= GONE_AFTER:
        return False
    read = mark is not None and mark.full_at is not None
    return read or await is_known(store, connection_id, entity)


def not_found_since(mark: Watermark | None, now: datetime) -> datetime:
    """When the source began to answer 404 and nothing else: `now`, if the last answer was none."""
    known = mark.not_found_since if mark is not None else None
    return now if known is None else known
