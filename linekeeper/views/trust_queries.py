"""What the artifact `webhook-trust` shows, read from the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.distinct_labels import SAID
from linekeeper.customers.naming import label
from linekeeper.reconcile.causes import OUTAGE
from linekeeper.reconcile.deletes import UNDO
from linekeeper.reconcile.entity_failures import EntityState
from linekeeper.reconcile.entity_incidents import entity_states
from linekeeper.reconcile.measure import count_by_connection, counted_columns
from linekeeper.reconcile.trust import WINDOW, Measured
from linekeeper.store import Store
from linekeeper.store.lists import count_rows
from linekeeper.store.tables import (
    Connection,
    Customer,
    Deletion,
    Drift,
    Outage,
    Watermark,
    WebhookTrust,
)


@dataclass(frozen=True, slots=True)
class TrustLine:
    """One connection: how its webhooks did over the window."""

    label: str
    state: str
    since: datetime | None
    """Since when it is in this state; None before it was first measured."""
    measured: Measured
    mismatched: int
    deleted: int
    polled_at: datetime | None
    """When the entity read longest ago was last read; None if something never was."""
    trouble: str | None
    """Why something of it could not be read the last time."""


@dataclass(frozen=True, slots=True)
class RunPoint:
    """What the runs counted that began in the same stretch of time from `at` on."""

    at: datetime
    lost: int
    late: int
    webhooks_seen: int
    caught_up: int


@dataclass(frozen=True, slots=True)
class TrustReport:
    """All of it at `now`."""

    now: datetime
    lines: Sequence[TrustLine]
    points: Sequence[RunPoint]
    step: timedelta
    held: Sequence[tuple[str, Deletion]]
    """Deletions, by connection, that wait for a decision, or can still be undone."""
    outages: Sequence[Outage]
    entities: Sequence[EntityState] = ()
    held_total: int = 0
    """How many there are of `held`, which has the first of them."""
    outages_total: int = 0
    """The same of `outages`."""

    @property
    def measured(self) -> Measured:
        """The whole fleet together."""
        total = [line.measured for line in self.lines]
        return Measured(
            lost=sum(figures.lost for figures in total),
            late=sum(figures.late for figures in total),
            webhooks_seen=sum(figures.webhooks_seen for figures in total),
            late_seconds=sum(figures.late_seconds for figures in total),
            caught_up=sum(figures.caught_up for figures in total),
        )


POINTS = 48
MOST_HELD = 50
MOST_OUTAGES = 10


async def trust_report(store: Store, *, now: datetime) -> TrustReport:
    """How far each established connection's webhooks can be relied on."""
    since = now - WINDOW
    async with store.read() as session:
        lines = await _lines(session, since)
        points, step = await _points(session, since, now)
        held, held_total = await _held(session, now)
        of_late = col(Outage.until) >= since
        newest = select(Outage).where(of_late).order_by(col(Outage.since).desc())
        outages = list(await session.scalars(newest.limit(MOST_OUTAGES)))
        outages_total = await count_rows(session, Outage, of_late)
    entities = await entity_states(store)
    return TrustReport(now, lines, points, step, held, outages, entities, held_total, outages_total)


async def _lines(session: AsyncSession, since: datetime) -> list[TrustLine]:
    measured = await count_by_connection(session, since)
    counted = (
        select(
            col(Drift.connection_id).label("id"),
            func.sum(col(Drift.mismatched)).label("mismatched"),
            func.sum(col(Drift.deleted)).label("deleted"),
        )
        .where(col(Drift.run_at) >= since, col(Drift.cause).is_(None))
        .group_by(col(Drift.connection_id))
        .subquery()
    )
    read = (
        select(
            col(Watermark.connection_id).label("id"),
            func.min(col(Watermark.polled_at)).label("polled_at"),
            func.count().label("entities"),
            func.count(col(Watermark.polled_at)).label("polled"),
            func.max(col(Watermark.error)).label("error"),
        )
        .where(col(Watermark.offered))
        .group_by(col(Watermark.connection_id))
        .subquery()
    )
    rows = await session.execute(
        select(
            Connection,
            col(Customer.name),
            WebhookTrust,
            counted.c.mismatched, counted.c.deleted,
            read.c.polled_at, read.c.entities, read.c.polled, read.c.error,
        )
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .outerjoin(WebhookTrust, col(WebhookTrust.connection_id) == col(Connection.id))
        .outerjoin(counted, counted.c.id == col(Connection.id))
        .outerjoin(read, read.c.id == col(Connection.id))
        .where(col(Connection.setup).in_(("syncing", "live")))
        .order_by(col(Connection.id))
    )  # fmt: skip
    lines = [
        TrustLine(
            label=label(customer, connection.provider, connection.name, connection.told_apart_by),
            state=trust.state if trust else "unknown",
            since=trust.since if trust else None,
            measured=measured.get(connection.id, Measured()),
            mismatched=int(mismatched or 0),
            deleted=int(deleted or 0),
            polled_at=polled_at if entities and entities == polled else None,
            trouble=error,
        )
        for (
            connection, customer, trust, mismatched, deleted, polled_at, entities, polled, error,
        ) in rows
    ]  # fmt: skip
    worst = {"none": 0, "bad": 1, "unknown": 2, "good": 2}
    return sorted(
        lines,
        key=lambda trust_line: (
            worst.get(trust_line.state, 2),
            -(trust_line.measured.miss_rate or 0.0),
            -trust_line.measured.changes,
            trust_line.label,
        ),
    )


async def _points(
    session: AsyncSession, since: datetime, now: datetime
) -> tuple[list[RunPoint], timedelta]:
    """What was counted over time, in at most `POINTS` steps from the first count on."""
    mine = (
        col(Drift.run_at) >= since,
        or_(col(Drift.cause).is_(None), col(Drift.cause) == OUTAGE),
    )
    first = await session.scalar(select(func.min(col(Drift.run_at))).where(*mine))
    if first is None:
        return [], timedelta(minutes=15)
    span = max(now - first, timedelta(minutes=15))
    step = next((step for step in _STEPS if span <= step * (POINTS - 1)), _STEPS[-1])
    rows = await session.execute(
        select(col(Drift.run_at), *counted_columns())
        .where(*mine)
        .group_by(col(Drift.run_at))
        .order_by(col(Drift.run_at))
    )
    series: dict[int, list[int]] = {}
    for run_at, lost, late, seen, _, caught_up in rows:
        sums = series.setdefault(int(run_at.timestamp() // step.total_seconds()), [0, 0, 0, 0])
        for index, number in enumerate((lost, late, seen, caught_up)):
            sums[index] += int(number)
    last = int(now.timestamp() // step.total_seconds())
    points = []
    for number in range(min(series), max(last, *series) + 1):
        at = datetime.fromtimestamp(number * step.total_seconds(), now.tzinfo)
        points.append(RunPoint(at, *series.get(number, [0, 0, 0, 0])))
    return points, step


_STEPS = tuple(timedelta(minutes=minutes) for minutes in (15, 30, 60, 120, 240, 480))


async def _held(session: AsyncSession, now: datetime) -> tuple[list[tuple[str, Deletion]], int]:
    """The first `MOST_HELD`, those that wait before others, and how many there are."""
    which = or_(
        col(Deletion.status) == "proposed",
        and_(
            col(Deletion.status) == "applied",
            func.coalesce(col(Deletion.decided_at), col(Deletion.at)) >= now - UNDO,
        ),
    )
    rows = await session.execute(
        select(Deletion, *SAID)
        .join(Connection, col(Connection.id) == col(Deletion.connection_id))
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .where(which)
        .order_by(col(Deletion.status).desc(), col(Deletion.at).desc())
        .limit(MOST_HELD)
    )
    held = [(label(*said), deletion) for deletion, *said in rows]
    return held, await count_rows(session, Deletion, which)
