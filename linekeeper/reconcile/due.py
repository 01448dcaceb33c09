"""What is to be read now, most urgent first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import and_, func, or_, select
from sqlmodel import col

from linekeeper.config import AppConfig
from linekeeper.customers.setup import ESTABLISHED
from linekeeper.makini import may_call_data
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
    polled_at: datetime | None
    full_at: datetime | None
    confirm_at: datetime | None

    def is_due(self, order: Order, entities: int) -> bool:
        """Whether its entities are to be read for what changed. Pure."""
        if self.entities == 0 or self.polled_at is None:
            return False  # nothing was read yet: a full listing
        if order.everything:
            return self.polled_at < order.started
        cadence = POLICY.cadence(self.trust, critical=self.critical)
        return order.started - self.polled_at >= cadence - POLICY.slack

    def is_full_due(self, order: Order, entities: int) -> bool:
        """Whether some of its entities are to be listed whole. Pure."""
        if self.entities < entities:
            return True
        if order.full and (self.full_at is None or self.full_at < order.started):
            return True
        return POLICY.is_full_due(self.full_at, self.confirm_at, now=order.started)

    def misses(self, window: Window | None) -> bool:
        """Whether it has not been read since `window` ended. Pure."""
        return (
            window is not None
            and self.entities > 0
            and (self.polled_at is None or self.polled_at < window.until)
        )


async def standings(rt: Runtime, app: AppConfig, order: Order) -> tuple[list[Standing], int]:
    """Every connection of `app` that may be read, critical customers' and the longest unread
    first, and how many may not because their circuit is open."""
    entities = order.of(app)
    has_token = col(Connection.id).in_(select(col(Credential.connection_id)))
    statement = (
        select(
            col(Connection.id),
            col(Connection.health),
            func.coalesce(col(Customer.critical), False),
            func.coalesce(col(WebhookTrust.state), "unknown"),
            func.count(col(Watermark.entity)),
            func.min(col(Watermark.polled_at)),
            # An entity never listed whole counts as the oldest of all.
            func.count(col(Watermark.full_at)),
            func.min(col(Watermark.full_at)),
            func.min(col(Watermark.confirm_at)),
            func.count(col(Watermark.polled_at)),
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
            polled_at=row[5] if row[9] else None,
            full_at=row[7] if row[6] == row[4] else None,
            confirm_at=row[8],
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
