"""What is to be read now, most urgent first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import and_, case, func, not_, or_, select, true
from sqlmodel import col

from linekeeper.access.tokens import is_live
from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.customers.setup import ESTABLISHED
from linekeeper.makini import may_call_data
from linekeeper.makini.budget import RATE_SHARE
from linekeeper.reconcile.outage import Window
from linekeeper.reconcile.policy import POLICY
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Credential, Customer, Watermark, WebhookTrust

Pass = Literal["catch-up", "routine", "full"]
PASSES: tuple[Pass, ...] = ("catch-up", "routine", "full")
"""Back-fills before routine, routine before full listings."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a run was asked to read."""

    started: datetime
    connections: Sequence[str] | None = None
    """Only these; None: every one."""
    entities: Sequence[str] | None = None
    """Only these; None: those of the app."""
    full: bool = False
    everything: bool = False
    """Read what isn't due by its cadence too."""
    shard: str | None = None
    window: Window | None = None
    """A time to cover for every connection, whatever their watermarks say."""

    def of(self, app: AppConfig) -> tuple[str, ...]:
        """The entities to read of `app`."""
        return app.entities if self.entities is None else tuple(self.entities)


@dataclass(slots=True)
class Standing:
    """How far a connection has been read, over its entities."""

    id: str
    critical: bool
    trust: str
    entities: int
    """Entities that were ever asked for."""
    offered: int
    """Those of them that its system offers."""
    polled_at: datetime | None
    """The oldest reading of those to be read now: offered, and not waiting after a failure."""
    never_full: int
    """Entities never listed whole, without those that wait after a failure."""
    full_at: datetime | None
    confirm_at: datetime | None

    def is_due(self, order: Order, entities: int) -> bool:
        """Whether some of its entities are to be read for what changed. Pure."""
        if self.polled_at is None:
            return False  # nothing was read yet: a full listing
        if order.everything:
            return self.polled_at < order.started
        cadence = POLICY.cadence(self.trust, critical=self.critical)
        return order.started - self.polled_at >= cadence - POLICY.slack

    def is_full_due(self, order: Order, entities: int) -> bool:
        """Whether some of its entities are to be listed whole. Pure."""
        if self.entities < entities or self.never_full:
            return True
        if self.full_at is None:
            return False  # all of them wait after a failure
        if order.full and self.full_at < order.started:
            return True
        return POLICY.is_full_due(self.full_at, self.confirm_at, now=order.started)

    def misses(self, window: Window | None) -> bool:
        """Whether it has not been read since `window` ended. Pure."""
        return window is not None and self.polled_at is not None and self.polled_at < window.until


async def unbearable(rt: Runtime, app: AppConfig, order: Order) -> str:
    """Why the connections of `app` can't be read as often as is said; empty where they can."""
    if not app.per_minute:
        return ""
    known, _ = await standings(rt, app, order)
    needed, borne = calls_needed(known), app.calls_a_minute * RATE_SHARE
    if needed <= borne:
        return ""
    return (
        f"app {app.name}: the call budget bears {borne:,.0f} of the {needed:,.0f} calls a minute "
        "that the cadences need, so connections are read less often, critical ones first"
    )


def calls_needed(standings: Sequence[Standing]) -> float:
    """Calls a minute to read each connection by its cadence, one page an entity. Pure."""
    return sum(
        one.offered / (POLICY.cadence(one.trust, critical=one.critical) / timedelta(minutes=1))
        for one in standings
    )


def failing_last(entities: Sequence[str], marks: Mapping[str, Watermark]) -> list[str]:
    """`entities` in the order to read them: those that failed the last time come last, so that
    whatever ends the reading of a connection never starves the others. Pure."""

    def failed(entity: str) -> bool:
        mark = marks.get(entity)
        return mark is not None and mark.error is not None

    return sorted(entities, key=failed)


def is_entity_due(
    mark: Watermark | None,
    which: Pass,
    order: Order,
    cadence: timedelta,
    *,
    again: bool = False,
) -> bool:
    """Whether one entity is to be read in this pass. Pure.

    A scheduled run leaves one alone that waits after a failure of its own; one started by hand
    reads it all the same, and so does who tries it `again` at once.
    """
    if mark is None:
        return which == "full"
    waits = mark.retry_at is not None and mark.retry_at > order.started
    if waits and not (order.everything or again):
        return False
    whole = POLICY.is_full_due(mark.full_at, mark.confirm_at, now=order.started) or (
        order.full and mark.full_at is not None and mark.full_at < order.started
    )
    if whole or which == "full":
        return whole and which == "full"
    if mark.polled_at is None or not mark.offered:
        return mark.offered
    if which == "catch-up" or order.everything:
        return mark.polled_at < order.started
    return order.started - mark.polled_at >= cadence - POLICY.slack


async def standings(rt: Runtime, app: AppConfig, order: Order) -> tuple[list[Standing], int]:
    """Every connection of `app` that may be read, critical customers' and the longest unread
    first, and how many may not because their circuit is open."""
    entities = order.of(app)
    waits = and_(col(Watermark.retry_at).is_not(None), col(Watermark.retry_at) > order.started)
    tried = true() if order.everything else not_(waits)
    read_now = case((and_(tried, col(Watermark.offered)), col(Watermark.polled_at)))
    listed_now = case((tried, col(Watermark.full_at)))
    never_listed = and_(tried, col(Watermark.entity).is_not(None), col(Watermark.full_at).is_(None))
    # Only observe asks for one: there a token that has ended can't be renewed, and is none.
    held = select(col(Credential.connection_id)).where(is_live(utcnow()))
    has_token = col(Connection.id).in_(held)
    statement = (
        select(
            col(Connection.id),
            col(Connection.health),
            func.coalesce(col(Customer.critical), False),
            func.coalesce(col(WebhookTrust.state), "unknown"),
            func.count(col(Watermark.entity)),
            func.count(case((col(Watermark.offered), 1))),
            func.min(read_now),
            func.count(case((never_listed, 1))),
            func.min(listed_now),
            func.min(case((tried, col(Watermark.confirm_at)))),
        )
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .outerjoin(WebhookTrust, col(WebhookTrust.connection_id) == col(Connection.id))
        .outerjoin(
            Watermark,
            and_(
                col(Watermark.connection_id) == col(Connection.id),
                col(Watermark.entity).in_(entities),
            ),
        )
        .where(
            col(Connection.app) == app.name,
            col(Connection.setup).in_(ESTABLISHED),
            or_(has_token, app.manages),  # type: ignore[arg-type]  # a plain bool is a literal here
        )
        .group_by(
            col(Connection.id), col(Connection.health), col(Customer.critical),
            col(WebhookTrust.state),
        )
    )  # fmt: skip
    if order.connections is not None:
        statement = statement.where(col(Connection.id).in_(order.connections))
    async with rt.store.read() as session:
        rows = (await session.execute(statement)).all()
    closed = [row for row in rows if may_call_data(row[1])]
    found = [
        Standing(
            id=row[0],
            critical=bool(row[2]),
            trust=row[3],
            entities=row[4],
            offered=row[5],
            polled_at=row[6],
            never_full=row[7],
            full_at=row[8],
            confirm_at=row[9],
        )
        for row in closed
    ]
    oldest = order.started - timedelta(days=36_500)
    found.sort(key=lambda one: (not one.critical, one.polled_at or oldest, one.id))
    return found, len(rows) - len(closed)


async def due_in(rt: Runtime, app: AppConfig, order: Order, which: Pass) -> tuple[list[str], int]:
    """The connections of `app` to read in this pass, most urgent first, and how many may not be
    read because their circuit is open."""
    if which == "catch-up" and order.window is None:
        return [], 0
    known, circuits = await standings(rt, app, order)
    return of_pass(which, known, order, len(order.of(app)), order.window), circuits


def of_pass(
    which: Pass, standings: Sequence[Standing], order: Order, entities: int, window: Window | None
) -> list[str]:
    """The connections to read in this pass. Pure."""
    if which == "catch-up":
        return [one.id for one in standings if one.misses(window)]
    if which == "routine":
        return [one.id for one in standings if one.is_due(order, entities)]
    return [one.id for one in standings if one.is_full_due(order, entities)]
