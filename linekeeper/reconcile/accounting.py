"""Counting what the webhooks missed: from `change.due` to rows of `drift`, each change once."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, case, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.health.evidence import Health, Judged, load
from linekeeper.reconcile.causes import (
    AWAY,
    DOWN,
    FIRST_SYNC,
    OUTAGE,
    Window,
    changed_between,
    dates_before,
    downtimes,
    is_in,
)
from linekeeper.reconcile.deletes import LONGEST_FIRST_SYNC
from linekeeper.reconcile.queries import lock_feed
from linekeeper.reconcile.reachability import known_outages
from linekeeper.store import Store
from linekeeper.store.lists import one_of, update_many
from linekeeper.store.tables import Change, Connection, Drift, Transition, Watermark
from linekeeper.store.types import Id
from linekeeper.sums import add_up


@dataclass(slots=True)
class Counts:
    """What one or more runs counted."""

    missed: int = 0
    late: int = 0
    mismatched: int = 0
    deleted: int = 0
    webhooks_seen: int = 0
    late_seconds: float = 0.0

    def __add__(self, other: "Counts") -> "Counts":
        both = replace(self)
        add_up(both, other)
        return both

    @property
    def recovered(self) -> int:
        """Changes no webhook had brought."""
        return self.missed + self.mismatched + self.deleted


@dataclass(frozen=True, slots=True)
class Before:
    """What was known of an entity before the reading that counts."""

    read_at: datetime | None = None
    """When it was last read."""
    grain: timedelta | None = None
    """How coarse the source's clock is; None while that isn't known."""


class _Due(NamedTuple):
    """A change that is due."""

    id: str
    what: str
    missed_in: str | None
    """The row that counted it as missed."""
    delay: float
    """Seconds by which its delivery came late."""


_EXCUSED = frozenset({"missed", "mismatched", "seen", "late"})
"""What changed in an outage of ours is not the sender's doing, however it was found."""
_UNANNOUNCED = frozenset({"missed", "mismatched", "late"})
"""What does not count if it changed while the connection was down; what came in time does."""
_DOWN = (Health.reauthorization_required.value, Health.unreachable.value)
_NOT_SYNCED = ("authorizing", "syncing")


async def is_any_due(session: AsyncSession, connection_id: str, entity: str) -> bool:
    """Whether a change of `entity` is to be counted."""
    return await session.scalar(_ANY_DUE, {"whose": connection_id, "entity": entity}) is not None


_ANY_DUE = (
    select(col(Change.id))
    .where(
        col(Change.connection_id) == bindparam("whose"),
        col(Change.entity) == bindparam("entity"),
        col(Change.due).is_not(None),
    )
    .limit(1)
)


async def count_due(
    store: Store,
    session: AsyncSession,
    connection_id: str,
    entity: str,
    *,
    run_at: datetime,
    cause: str | None = None,
    before: Before | None = None,
    shard: str | None,
) -> Counts:
    """Count every change that is due, once, into `drift` rows of the run at `run_at`.

    One row for what the sender answers for, others for what changed in an outage of ours, while
    the connection was down, and before it was known here; with a `cause` all of it is put down to
    that. A delivery that comes late is counted where its change was.

    In the caller's transaction, which writes this connection's records alone from then on; where
    nothing was due nobody is locked out and no row is written.
    """
    if not await is_any_due(session, connection_id, entity):
        return Counts()
    mine = _due(connection_id, entity)
    await lock_feed(store, session, connection_id)
    rows = await session.execute(
        select(
            col(Change.id), col(Change.due), col(Change.updated_at), col(Change.at),
            col(Change.announced_at), col(Change.missed_in), col(Drift.cause),
            case((col(Change.op) == "inserted", col(Connection.created_at))),
        )
        .outerjoin(Drift, col(Drift.id) == col(Change.missed_in))
        .join(Connection, col(Connection.id) == col(Change.connection_id))
        .where(*mine)
    )  # fmt: skip
    known = before or Before()
    outages = await known_outages(session, now=utcnow())
    not_senders = await _not_senders(session, connection_id)
    by_cause: defaultdict[str | None, list[_Due]] = defaultdict(list)
    excused: list[_Due] = []
    for identifier, what, *times, missed_in, counted_as, known_at in rows:
        updated_at, found_at, announced_at = times
        delay = 0.0
        if what == "late" and announced_at is not None:
            delay = _delay(updated_at, found_at, announced_at)
        due = _Due(identifier, what or "", missed_in, delay)
        of = counted_as if missed_in is not None else cause
        if of is None and what in _EXCUSED:
            changed = changed_between(
                updated_at, found_at, read_before=known.read_at, grain=known.grain
            )
            if is_in(outages, changed):
                of = OUTAGE
                if missed_in is not None:
                    excused.append(due)
            elif missed_in is None and what in _UNANNOUNCED:
                named = (name for name, windows in not_senders.items() if is_in(windows, changed))
                is_older = dates_before(known_at, updated_at, grain=known.grain)
                of = FIRST_SYNC if is_older else next(named, None)
        by_cause[of].append(due)
    moved = await _put_down_to_us(store, session, [(due.id, due.missed_in) for due in excused])
    total, came_late = Counts(), Counter[str]()
    for of, changes in by_cause.items():
        number = Counter(due.what for due in changes)
        counts = Counts(
            missed=number["missed"],
            late=number["late"],
            mismatched=number["mismatched"],
            deleted=number["deleted"],
            webhooks_seen=number["seen"],
            late_seconds=sum(due.delay for due in changes),
        )
        row = Drift(
            connection_id=connection_id,
            entity=entity,
            run_at=run_at,
            shard=shard,
            cause=of,
            **asdict(counts),
        )
        session.add(row)
        await session.flush()
        ids = [due.id for due in changes]
        these = () if len(by_cause) == 1 else (one_of(store, Change.id, ids),)
        counted_in = case(
            (col(Change.due) == "missed", literal(row.id, Id)), else_=col(Change.missed_in)
        )
        await session.execute(
            update_many(Change).where(*mine, *these).values(due=None, missed_in=counted_in)
        )
        for due in changes:
            if due.what == "late" and due.missed_in is not None:
                came_late[moved.get(due.id, due.missed_in)] += 1
        total += counts
    for identifier, late in came_late.items():
        await _add(session, identifier, came_late=late)
    return total


async def _not_senders(session: AsyncSession, connection_id: str) -> dict[str, list[Window]]:
    """By cause, when nobody could announce a change of the connection: in its first sync, and while
    Makini could not get at its system, or its login was lost."""
    rows = await session.execute(
        select(
            col(Transition.axis), col(Transition.at), col(Transition.before), col(Transition.after)
        )
        .where(col(Transition.connection_id) == connection_id)
        .order_by(col(Transition.at), col(Transition.id))
    )
    of: defaultdict[str, list[tuple[datetime, str, str]]] = defaultdict(list)
    for axis, at, before, after in rows:
        of[axis].append((at, before or "", after))
    known = await session.execute(
        select(col(Connection.created_at), col(Connection.setup), col(Connection.judged)).where(
            col(Connection.id) == connection_id
        )
    )
    created_at, setup, judged = known.one()
    steps = of["setup"] or [(created_at, "", setup)]  # as it is since it is known
    by_status = _first_sync(load(judged), created_at)
    return {
        FIRST_SYNC: [*downtimes(steps, _NOT_SYNCED), *downtimes(by_status, _NOT_SYNCED)],
        DOWN: downtimes(of["health"], _DOWN),
    }


def _first_sync(judged: Judged, created_at: datetime) -> list[tuple[datetime, str, str]]:
    """The first sync of which only a connection's status spoke, as steps of its setup. Pure."""
    if judged.syncing_since is None:
        return []
    latest = created_at + LONGEST_FIRST_SYNC
    ended = latest if judged.synced_at is None else min(judged.synced_at, latest)
    return [(created_at, "", "syncing"), (ended, "syncing", "live")]


async def count_again(store: Store, outages: Sequence[Window]) -> None:
    """What had been counted as missed, and changed in one of the `outages`, is put down to us."""
    for outage in outages:
        async with store.read() as session:
            rows = await session.execute(
                select(
                    col(Change.connection_id), col(Change.id), col(Change.updated_at),
                    col(Change.at), col(Change.missed_in), col(Watermark.grain_seconds),
                )
                .join(Drift, col(Drift.id) == col(Change.missed_in))
                .outerjoin(
                    Watermark,
                    (col(Watermark.connection_id) == col(Change.connection_id))
                    & (col(Watermark.entity) == col(Change.entity)),
                )
                .where(
                    col(Change.at) >= outage.since,
                    col(Change.at) <= outage.until + AWAY,
                    col(Drift.cause).is_(None),
                )
            )  # fmt: skip
            ours: defaultdict[str, list[tuple[str, str | None]]] = defaultdict(list)
            for connection_id, identifier, updated_at, found_at, missed_in, seconds in rows:
                grain = timedelta(seconds=seconds) if seconds is not None else None
                changed = changed_between(updated_at, found_at, read_before=None, grain=grain)
                if is_in([outage], changed):
                    ours[connection_id].append((identifier, missed_in))
        for connection_id, changes in ours.items():
            async with store.write() as session:
                await lock_feed(store, session, connection_id)
                await _put_down_to_us(store, session, changes)


async def _put_down_to_us(
    store: Store, session: AsyncSession, changes: Sequence[tuple[str, str | None]]
) -> dict[str, str]:
    """Move missed `changes`, each with the row that counted it, to rows of our own outages.

    Returns the row in which each is counted from now on.
    """
    by_row: defaultdict[str, list[str]] = defaultdict(list)
    for identifier, missed_in in changes:
        if missed_in is not None:
            by_row[missed_in].append(identifier)
    moved: dict[str, str] = {}
    for counted_in, identifiers in by_row.items():
        row = await session.get(Drift, counted_in)
        if row is None or row.cause is not None:
            continue
        these = (one_of(store, Change.id, identifiers), col(Change.missed_in) == counted_in)
        came = and_(col(Change.announced_at).is_not(None), col(Change.due).is_(None))
        missed, came_late = (
            await session.execute(
                select(func.count(), func.count(case((came, 1)))).select_from(Change).where(*these)
            )
        ).one()
        other = Drift(
            connection_id=row.connection_id,
            entity=row.entity,
            run_at=row.run_at,
            shard=row.shard,
            missed=missed,
            came_late=came_late,
            cause=OUTAGE,
        )
        session.add(other)
        await session.flush()
        await _add(session, counted_in, missed=-missed, came_late=-came_late)
        await session.execute(update_many(Change).where(*these).values(missed_in=other.id))
        moved |= dict.fromkeys(identifiers, other.id)
    return moved


async def _add(session: AsyncSession, row_id: str, **numbers: int) -> None:
    """Add `numbers` to columns of a row of `drift`."""
    await session.execute(
        update_many(Drift)
        .where(col(Drift.id) == row_id)
        .values({name: getattr(Drift, name) + number for name, number in numbers.items()})
    )


def _due(connection_id: str, entity: str) -> tuple[ColumnElement[bool], ...]:
    return (
        col(Change.connection_id) == connection_id,
        col(Change.entity) == entity,
        col(Change.due).is_not(None),
    )


def _delay(changed_at: datetime | None, found_at: datetime, announced_at: datetime) -> float:
    """Seconds from the source's change (from when it was found, if unsaid) to its delivery."""
    from_ = changed_at if changed_at is not None and changed_at <= found_at else found_at
    return max(0.0, (announced_at - from_).total_seconds())
