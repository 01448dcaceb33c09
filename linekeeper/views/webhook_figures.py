"""What the operator sees of webhooks: counts by status, what was turned away, what is dead."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, case, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.inbox.meaning import CANARY
from linekeeper.inbox.replay import not_replayed
from linekeeper.outbox.forward import CHANNEL
from linekeeper.store import Store
from linekeeper.store.lists import count_rows, update_many
from linekeeper.store.tables import (
    Connection,
    Customer,
    DeliveryCount,
    Outbox,
    RejectedDelivery,
    WebhookEvent,
)
from linekeeper.store.types import id_floor
from linekeeper.sweep.stream import Stream
from linekeeper.sweep.stream_queries import IS_FAILING, read_streams

SPAN = timedelta(days=1)
LISTED = 50
SAMPLES = 10


@dataclass(frozen=True, slots=True)
class Counted:
    """How many of something, in the span of the report."""

    app: str
    what: str
    count: int


@dataclass(frozen=True, slots=True)
class ListedEvent:
    """An event that is failing, or ended dead or unrouted."""

    id: str
    app: str
    at: datetime
    """When it was received."""
    event: str
    customer: str | None
    provider: str | None
    name: str | None
    """The name of the connection, where it is known."""
    told_apart_by: str | None
    ref: str | None
    """What the sender calls the connection."""
    error: str
    connection_id: str | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything at one moment."""

    at: datetime
    statuses: Sequence[Counted]
    """Events received in the last day, by status, processed canaries apart; those waiting
    whenever they were received."""
    deliveries: Sequence[Counted]
    """What left no event in the last day: duplicates and rejections by cause."""
    forwards: Sequence[Counted]
    """Messages to the product settled in the last day, by status, and those waiting."""
    streams: Sequence[Stream]
    failing: Sequence[ListedEvent]
    """Tried in vain, to be tried again."""
    dead: Sequence[ListedEvent]
    dead_total: int
    unrouted: Sequence[ListedEvent]
    unrouted_total: int
    rejected: Sequence[RejectedDelivery]
    """The last that were turned away."""

    def total(self, status: str) -> int:
        """How many events have `status`, of all apps."""
        return sum(counted.count for counted in self.statuses if counted.what == status)


async def read_figures(store: Store, apps: Sequence[str], *, now: datetime) -> Figures:
    async with store.read() as session:
        streams = await read_streams(session, apps, now=now)
        dead = [_is("dead"), not_replayed()]
        unrouted = [_is("unrouted"), col(WebhookEvent.processed_at) >= now - SPAN, not_replayed()]
        return Figures(
            at=now,
            statuses=await _statuses(session, now),
            deliveries=await _deliveries(session, now),
            forwards=await _forwards(session, now),
            streams=streams,
            failing=await _listed(session, [_is("pending"), IS_FAILING]),
            dead=await _listed(session, dead),
            dead_total=sum(stream.dead for stream in streams),
            unrouted=await _listed(session, unrouted),
            unrouted_total=await count_rows(session, WebhookEvent, *unrouted),
            rejected=await _rejected(session),
        )


async def newly_dead(store: Store) -> list[ListedEvent]:
    """Dead events no run was red for yet, the newest first, at most `LISTED`."""
    async with store.read() as session:
        which = [_is("dead"), col(WebhookEvent.reported_at).is_(None), not_replayed()]
        return await _listed(session, which)


async def mark_reported(store: Store, *, now: datetime) -> int:
    """Remember that a run was red for all that is dead at `now`; returns for how many."""
    async with store.write() as session:
        rows = await session.execute(
            update_many(WebhookEvent)
            .where(
                _is("dead"),
                col(WebhookEvent.reported_at).is_(None),
                col(WebhookEvent.processed_at) <= now,
                not_replayed(),
            )
            .values(reported_at=now)
            .returning(col(WebhookEvent.id))
        )
        return len(rows.all())


def _is(status: str) -> ColumnElement[bool]:
    """Spelled out, so that the partial index is used."""
    condition: ColumnElement[bool] = col(WebhookEvent.status) == literal_column(f"'{status}'")
    return condition


async def _statuses(session: AsyncSession, now: datetime) -> list[Counted]:
    is_canary = (col(WebhookEvent.kind) == CANARY) & (col(WebhookEvent.status) == "processed")
    what = case((is_canary, literal_column(f"'{CANARY}'")), else_=col(WebhookEvent.status))
    labelled = select(col(WebhookEvent.app).label("app"), what.label("what")).where(
        col(WebhookEvent.id) >= id_floor(now - SPAN), col(WebhookEvent.status) != "pending"
    )
    each = labelled.subquery()
    settled = await session.execute(
        select(each.c.app, each.c.what, func.count()).group_by(each.c.app, each.c.what)
    )
    pending = await session.execute(
        select(col(WebhookEvent.app), col(WebhookEvent.status), func.count())
        .where(_is("pending"))
        .group_by(col(WebhookEvent.app), col(WebhookEvent.status))
    )
    return _sorted([*settled, *pending])


async def _deliveries(session: AsyncSession, now: datetime) -> list[Counted]:
    rows = await session.execute(
        select(
            col(DeliveryCount.app),
            col(DeliveryCount.cause),
            func.sum(col(DeliveryCount.count)),
        )
        .where(col(DeliveryCount.minute) >= now - SPAN)
        .group_by(col(DeliveryCount.app), col(DeliveryCount.cause))
    )
    return _sorted(rows)


async def _forwards(session: AsyncSession, now: datetime) -> list[Counted]:
    rows = await session.execute(
        select(col(Outbox.status), func.count())
        .where(
            col(Outbox.channel) == CHANNEL,
            (col(Outbox.status) == "pending") | (col(Outbox.settled_at) >= now - SPAN),
        )
        .group_by(col(Outbox.status))
    )
    return _sorted(("", *row) for row in rows)


def _sorted(rows: Any) -> list[Counted]:
    counted = [Counted(app, what, int(count)) for app, what, count in rows]
    return sorted(counted, key=lambda count: (count.app, -count.count))


async def _listed(session: AsyncSession, which: Sequence[ColumnElement[bool]]) -> list[ListedEvent]:
    rows = await session.execute(
        select(
            col(WebhookEvent.id),
            col(WebhookEvent.app),
            col(WebhookEvent.received_at),
            func.coalesce(func.nullif(col(WebhookEvent.event), ""), "(no name)"),
            col(Customer.name),
            col(Connection.provider),
            col(Connection.name),
            col(Connection.told_apart_by),
            col(WebhookEvent.connection_ref),
            func.coalesce(col(WebhookEvent.error), ""),
            col(WebhookEvent.connection_id),
        )
        .outerjoin(Connection, col(Connection.id) == col(WebhookEvent.connection_id))
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .where(*which)
        .order_by(col(WebhookEvent.processed_at).desc(), col(WebhookEvent.id).desc())
        .limit(LISTED)
    )
    return [ListedEvent(*row) for row in rows]


async def _rejected(session: AsyncSession) -> list[RejectedDelivery]:
    newest = (col(RejectedDelivery.at).desc(), col(RejectedDelivery.id).desc())
    last = select(RejectedDelivery).order_by(*newest).limit(SAMPLES)
    return list(await session.scalars(last))
