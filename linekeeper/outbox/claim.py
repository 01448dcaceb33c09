"""Claiming work in order: lanes side by side, each lane from its first waiting row on.

A table of work has rows with a lane, a time from which they may be claimed (`next_attempt_at`)
and the claim that holds them (`claimed_by`). A claim puts that time off to its own end, so that a
claimed row is simply one that isn't due, and one whose claimant died is due again by itself.

A row is never claimed while an earlier one of its lane waits for a further try or is held by
another claim; such rows are put off to the same moment, so that a lane that waits costs nobody
else anything, however many rows it has. So the cost of a claim follows what is claimed, and not
what waits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, bindparam, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.chunks import chunked
from linekeeper.store import Store, new_id

HELD_SECONDS = 0.2
"""When to look again at rows behind those of another claim, which may end at any moment; if that
has lasted longer by now, after as long again: so rows that wait long are looked at seldom."""
_LANES_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Work:
    """A table of work. Rows of a lane are done in the order of `order`, a UUIDv7."""

    table: Any
    order: Any
    which: ColumnElement[bool]
    """The part of the table that is claimed here."""
    columns: Sequence[Any]
    """What a claim returns beside `id`, `lane` and `attempts`."""
    also: dict[str, Any] = field(default_factory=dict)
    """What else a claim sets."""

    @property
    def waiting(self) -> ColumnElement[bool]:
        """Rows that are not settled yet."""
        pending: ColumnElement[bool] = self.table.c.status == literal_column("'pending'")
        return pending & self.which


@dataclass(frozen=True, slots=True)
class Claim:
    """Rows that are ours until `until`, each lane's in order."""

    token: str
    until: datetime
    rows: Sequence[RowMapping]


def new_token(owner: str) -> str:
    """What a claim of `owner` is known by."""
    return f"{owner}/{new_id()}"


async def is_due(session: AsyncSession, work: Work, *, now: datetime) -> bool:
    """Whether there is anything to claim: a look that takes no lock."""
    found = await session.execute(
        select(work.table.c.id).where(work.waiting, work.table.c.next_attempt_at <= now).limit(1)
    )
    return found.first() is not None


async def claim(
    store: Store,
    work: Work,
    owner: str,
    *,
    limit: int,
    now: datetime,
    seconds: float,
    token: str | None = None,
) -> Claim:
    """Claim up to `limit` rows that are due until `now + seconds`, in a transaction of its own.

    Who claims again before an earlier claim is settled gives the same `token` (`new_token`): rows
    behind its own are not blocked, for it knows their order itself.
    """
    table, token = work.table, token or new_token(owner)
    until = now + timedelta(seconds=seconds)
    due = (
        select(table.c.id)
        .where(work.waiting, table.c.next_attempt_at <= now)
        .order_by(table.c.next_attempt_at, work.order)
        .limit(limit)
    )
    if not store.is_sqlite:
        due = due.with_for_update(skip_locked=True)
    async with store.write() as session:
        taken = (
            await session.execute(
                update(table)
                .where(table.c.id.in_(due))
                .values(
                    claimed_by=token,
                    next_attempt_at=until,
                    attempts=table.c.attempts + 1,
                    **work.also,
                )
                .returning(
                    table.c.id,
                    work.order.label("place"),
                    table.c.lane,
                    table.c.attempts,
                    *work.columns,
                )
            )
        ).mappings()
        rows = sorted(taken, key=lambda row: row["place"])
        blocked = await _blocked(session, work, token, rows, now=now, seconds=seconds)
        if blocked:
            await release_claim(session, work, token, blocked)
            rows = [row for row in rows if row["id"] not in blocked]
    return Claim(token, until, rows)


async def release_claim(
    session: AsyncSession, work: Work, token: str, until: dict[str, datetime]
) -> None:
    """Let go of claimed rows that nobody tried: as if they had not been claimed, due at `until`."""
    table = work.table
    await (await session.connection()).execute(
        update(table)
        .where(
            table.c.id == bindparam("row_id"),
            table.c.claimed_by == token,
            table.c.status == literal_column("'pending'"),
        )
        .values(
            claimed_by=None,
            next_attempt_at=bindparam("until", type_=table.c.next_attempt_at.type),
            attempts=table.c.attempts - 1,
        ),
        [{"row_id": row, "until": at} for row, at in until.items()],
    )


async def _blocked(
    session: AsyncSession,
    work: Work,
    token: str,
    rows: Sequence[RowMapping],
    *,
    now: datetime,
    seconds: float,
) -> dict[str, datetime]:
    """Which of `rows` have an earlier one in their lane that isn't ours, and when to look again."""
    lanes = sorted({row["lane"] for row in rows if row["lane"] != row["id"]})
    if not lanes:
        return {}
    table, top = work.table, rows[-1]["place"]
    first: dict[str, RowMapping] = {}
    for chunk in chunked(lanes, _LANES_AT_ONCE):
        found = await session.execute(
            select(
                table.c.lane, work.order.label("place"), table.c.claimed_by, table.c.next_attempt_at
            ).where(
                work.waiting,
                table.c.lane.in_(chunk),
                work.order < top,
                table.c.claimed_by.is_distinct_from(token),
            )
        )
        for row in found.mappings():
            if row["lane"] not in first or row["place"] < first[row["lane"]]["place"]:
                first[row["lane"]] = row
    blocked: dict[str, datetime] = {}
    for row in rows:
        before = first.get(row["lane"])
        if before is not None and before["place"] < row["place"]:
            held = before["claimed_by"] is not None and before["next_attempt_at"] > now
            due = max(before["next_attempt_at"], now)
            if held:  # its claim may end early, and ends by then at the latest
                began = before["next_attempt_at"] - timedelta(seconds=seconds)
                due = min(look_again(began, now=now), due)
            blocked[row["id"]] = due
    return blocked


def look_again(held_since: datetime, *, now: datetime) -> datetime:
    """When to look again at rows behind some that are claimed since `held_since`."""
    return now + max(now - held_since, timedelta(seconds=HELD_SECONDS))
