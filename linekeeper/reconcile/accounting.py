"""Counting what the webhooks missed: from `change.due` to rows of `drift`, each change once."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.reconcile.queries import lock_feed
from linekeeper.store import Store
from linekeeper.store.tables import Change, Drift

COUNTED = ("missed", "late", "mismatched", "deleted", "seen")


@dataclass(slots=True)
class Counts:
    """What one or more runs counted."""

    missed: int = 0
    late: int = 0
    mismatched: int = 0
    deleted: int = 0
    webhooks_seen: int = 0
    late_seconds: float = 0.0

    def add(self, other: "Counts") -> None:
        """Add what another run counted."""
        self.missed += other.missed
        self.late += other.late
        self.mismatched += other.mismatched
        self.deleted += other.deleted
        self.webhooks_seen += other.webhooks_seen
        self.late_seconds += other.late_seconds

    @property
    def recovered(self) -> int:
        """Changes no webhook had brought."""
        return self.missed + self.mismatched + self.deleted


async def count_due(
    store: Store,
    session: AsyncSession,
    connection_id: str,
    entity: str,
    *,
    run_at: datetime,
    cause: str | None = None,
) -> Counts:
    """Count every change that is due, once, into one `drift` row of the run at `run_at`.

    In the caller's transaction, which writes this connection's records alone from then on; where
    nothing was due nobody is locked out and no row is written.
    """
    mine = (
        col(Change.connection_id) == connection_id,
        col(Change.entity) == entity,
        col(Change.due).is_not(None),
    )
    found = select(col(Change.due), func.count()).where(*mine).group_by(col(Change.due))
    if (await session.execute(found.limit(1))).first() is None:
        return Counts()
    await lock_feed(store, session, connection_id)
    due: Counter[str | None] = Counter()
    for what, number in await session.execute(found):
        due[what] = number
    if not due:  # somebody else has just counted it
        return Counts()
    counts = Counts(
        missed=due["missed"],
        late=due["late"],
        mismatched=due["mismatched"],
        deleted=due["deleted"],
        webhooks_seen=due["seen"],
    )
    if counts.late:
        late = await session.execute(
            select(col(Change.updated_at), col(Change.at), col(Change.announced_at)).where(
                *mine, col(Change.due) == "late"
            )
        )
        counts.late_seconds = sum(
            _delay(changed_at, found_at, announced_at)
            for changed_at, found_at, announced_at in late
            if announced_at is not None
        )
    await session.execute(
        update(Change).where(*mine).values(due=None).execution_options(synchronize_session=False)
    )
    session.add(
        Drift(
            connection_id=connection_id,
            entity=entity,
            run_at=run_at,
            missed=counts.missed,
            late=counts.late,
            mismatched=counts.mismatched,
            deleted=counts.deleted,
            webhooks_seen=counts.webhooks_seen,
            late_seconds=counts.late_seconds,
            cause=cause,
        )
    )
    await session.flush()
    return counts


def _delay(changed_at: datetime | None, found_at: datetime, announced_at: datetime) -> float:
    """Seconds from the source's change (from when it was found, if unsaid) to its delivery."""
    from_ = changed_at if changed_at is not None and changed_at <= found_at else found_at
    return max(0.0, (announced_at - from_).total_seconds())
