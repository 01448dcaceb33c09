"""What is to be read now, most urgent first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import groupby
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Integer,
    Row,
    Select,
    and_,
    bindparam,
    case,
    func,
    not_,
    or_,
    select,
    true,
)
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.customers.setup import ESTABLISHED
from linekeeper.makini import may_call_data
from linekeeper.reconcile.causes import Window
from linekeeper.reconcile.first_listing import is_whole_due
from linekeeper.reconcile.policy import POLICY
from linekeeper.reconcile.target import PollTarget
from linekeeper.runtime import Runtime
from linekeeper.store.modes import is_managed_by
from linekeeper.store.tables import (
    Connection,
    ConnectionSetting,
    Credential,
    Customer,
    Watermark,
    WebhookTrust,
)
from linekeeper.store.types import UtcDateTime, table_of
from linekeeper.tokens.stored import is_live

Pass = Literal["backfill", "routine", "full"]
PASSES: tuple[Pass, ...] = ("backfill", "routine", "full")
"""Backfills before routine, routine before full listings."""


@dataclass(frozen=True, slots=True)
class PollOrder:
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
        if self.entities is None:
            return app.entities
        return tuple(self.entities)

    def of_connection(self, target: PollTarget) -> tuple[str, ...]:
        """The entities to read of one connection: none that it was configured not to be read
        for."""
        wanted = self.of(target.app)
        if not target.settings:
            return wanted
        return tuple(entity for entity in wanted if entity in target.settings)


@dataclass(frozen=True, slots=True)
class Paced:
    """Entities of a connection that have the same cadence."""

    minutes: int | None
    """The cadence as it was configured; None: by the state of the connection's webhooks."""
    offered: int
    """Those of them that its system offers."""
    polled_at: datetime | None
    """The oldest reading of those to be read now: offered, and not waiting after a failure."""


@dataclass(slots=True)
class ReadState:
    """How far a connection has been read, over its entities."""

    id: str
    critical: bool
    trust: str
    wanted: int
    """Entities it is to be read for."""
    entities: int
    """Entities that were ever asked for."""
    paced: Sequence[Paced]
    never_full: int
    """Entities never listed whole, without those that wait after a failure."""
    full_at: datetime | None
    confirm_at: datetime | None

    @property
    def polled_at(self) -> datetime | None:
        """The oldest reading of all that is to be read now."""
        return min((each.polled_at for each in self.paced if each.polled_at), default=None)

    def cadence(self, paced: Paced) -> timedelta:
        """How long these of its entities may go unread. Pure."""
        if paced.minutes is not None:
            return timedelta(minutes=paced.minutes)
        return POLICY.cadence(self.trust, critical=self.critical)

    def is_due(self, order: PollOrder) -> bool:
        """Whether some of its entities are to be read for what changed. Pure."""
        return any(self._is_due(each, order) for each in self.paced)

    def _is_due(self, paced: Paced, order: PollOrder) -> bool:
        if paced.polled_at is None:
            return False  # nothing was read yet: a full listing
        if order.everything:
            return paced.polled_at < order.started
        return order.started - paced.polled_at >= self.cadence(paced) - POLICY.slack

    def is_full_due(self, order: PollOrder) -> bool:
        """Whether some of its entities are to be listed whole. Pure."""
        if self.entities < self.wanted or self.never_full:
            return True
        if self.full_at is None:  # all wait after a failure, or after a first listing broke off
            return order.full and self.polled_at is not None
        if order.full and self.full_at < order.started:
            return True
        confirm_at, polled_at = self.confirm_at, self.polled_at
        return POLICY.is_full_due(self.full_at, confirm_at, polled_at=polled_at, now=order.started)

    def misses(self, window: Window | None) -> bool:
        """Whether it has not been read since `window` ended. Pure."""
        return window is not None and self.polled_at is not None and self.polled_at < window.until


def is_entity_due(
    mark: Watermark | None,
    which: Pass,
    order: PollOrder,
    cadence: timedelta,
    *,
    again: bool,
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
    whole = is_whole_due(mark, now=order.started) or (
        order.full and (mark.full_at is None or mark.full_at < order.started)
    )
    if whole or which == "full":
        return whole and which == "full"
    if mark.polled_at is None or not mark.offered:
        return mark.offered
    if which == "backfill" or order.everything:
        return mark.polled_at < order.started
    return order.started - mark.polled_at >= cadence - POLICY.slack


async def standings(rt: Runtime, app: AppConfig, order: PollOrder) -> tuple[list[ReadState], int]:
    """Every connection of `app` that may be read, critical customers' and the longest unread
    first, and how many may not: their circuit is open."""
    async with rt.store.read() as session:
        rows = (await session.execute(*_standings(app, order))).all()
    closed = [row for row in rows if may_call_data(row.health)]
    states = [_standing(list(same)) for _, same in groupby(closed, key=lambda row: row.id)]
    oldest = order.started - timedelta(days=36_500)
    states.sort(key=lambda each: (not each.critical, each.polled_at or oldest, each.id))
    circuits = {row.id for row in rows} - {row.id for row in closed}
    return states, len(circuits)


def _standings(app: AppConfig, order: PollOrder) -> tuple[Select[Any], dict[str, Any]]:
    """A row for each connection and cadence that its entities have, by connection."""
    entities, ids = order.of(app), order.connections
    statement = _standings_of(
        everything=order.everything,
        names_entities=order.entities is not None,
        names_connections=ids is not None,
        app_manages=app.manages,
    )
    given = {"of_app": app.name, "started": order.started, "now": utcnow()}
    given |= {"entities": entities, "number": len(entities)}
    return statement, given if ids is None else {**given, "ids": ids}


@cache
def _standings_of(
    *, everything: bool, names_entities: bool, names_connections: bool, app_manages: bool
) -> Select[Any]:
    """Built once of each kind: to put it together costs more than the database needs for it."""
    started = bindparam("started", type_=UtcDateTime)
    entities: Any = bindparam("entities", expanding=True)
    waits = and_(col(Watermark.retry_at).is_not(None), col(Watermark.retry_at) > started)
    tried = true() if everything else not_(waits)
    read_now = case((and_(tried, col(Watermark.offered)), col(Watermark.polled_at)))
    never_listed = and_(
        *(tried, col(Watermark.entity).is_not(None), col(Watermark.full_at).is_(None)),
        # A first listing that broke off waits, once what changed since could be read.
        or_(
            col(Watermark.polled_at).is_(None),
            col(Watermark.confirm_at).is_(None),
            col(Watermark.confirm_at) <= started,
        ),
    )
    # What is observed is read with a token that was lent for it, while that lives.
    held = select(col(Credential.connection_id)).where(is_live(bindparam("now", type_=UtcDateTime)))
    is_lent = and_(col(Connection.custody) == "borrowed", col(Connection.id).in_(held))
    # What was configured: how many entities, and which of them this order is about.
    setting, about = table_of(ConnectionSetting).alias("setting"), col(ConnectionSetting.entity)
    named = about.in_(entities) if names_entities else true()
    configured = (
        select(
            col(ConnectionSetting.connection_id).label("connection_id"),
            func.count(case((named, 1))).label("wanted"),
        )
        .group_by(col(ConnectionSetting.connection_id))
        .subquery()
    )
    is_asked_for: ColumnElement[bool] = col(Watermark.entity).in_(entities)
    if not names_entities:
        is_asked_for = or_(configured.c.wanted.is_not(None), is_asked_for)
    is_wanted = and_(
        is_asked_for, or_(configured.c.wanted.is_(None), setting.c.connection_id.is_not(None))
    )
    counted = case((is_wanted, col(Watermark.entity)))
    statement = (
        select(
            col(Connection.id).label("id"),
            col(Connection.health).label("health"),
            func.coalesce(col(Customer.critical), False).label("critical"),
            func.coalesce(col(WebhookTrust.state), "unknown").label("trust"),
            func.coalesce(configured.c.wanted, bindparam("number", type_=Integer)).label("wanted"),
            setting.c.cadence_minutes.label("minutes"),
            func.count(counted).label("entities"),
            func.count(case((and_(is_wanted, col(Watermark.offered)), 1))).label("offered"),
            func.min(case((is_wanted, read_now))).label("polled_at"),
            func.count(case((and_(is_wanted, never_listed), 1))).label("never_full"),
            func.min(case((and_(is_wanted, tried), col(Watermark.full_at)))).label("full_at"),
            func.min(case((and_(is_wanted, tried), col(Watermark.confirm_at)))).label("confirm_at"),
        )
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .outerjoin(WebhookTrust, col(WebhookTrust.connection_id) == col(Connection.id))
        .outerjoin(configured, configured.c.connection_id == col(Connection.id))
        .outerjoin(Watermark, col(Watermark.connection_id) == col(Connection.id))
        .outerjoin(
            setting,
            and_(
                setting.c.connection_id == col(Watermark.connection_id),
                setting.c.entity == col(Watermark.entity),
            ),
        )
        .where(
            col(Connection.app) == bindparam("of_app"),
            col(Connection.setup).in_(ESTABLISHED),
            or_(is_lent, is_managed_by(app_manages)),
        )
        .group_by(
            col(Connection.id), col(Connection.health), col(Customer.critical),
            col(WebhookTrust.state), configured.c.wanted, setting.c.cadence_minutes,
        )
        .order_by(col(Connection.id))
    )  # fmt: skip
    if names_connections:
        statement = statement.where(col(Connection.id).in_(bindparam("ids", expanding=True)))
    return statement


def _standing(rows: Sequence[Row[Any]]) -> ReadState:
    """One connection, of a row for each cadence. Pure."""
    first = rows[0]
    return ReadState(
        id=first.id,
        critical=bool(first.critical),
        trust=first.trust,
        wanted=first.wanted,
        entities=sum(row.entities for row in rows),
        paced=[Paced(row.minutes, row.offered, row.polled_at) for row in rows],
        never_full=sum(row.never_full for row in rows),
        full_at=min((row.full_at for row in rows if row.full_at), default=None),
        confirm_at=min((row.confirm_at for row in rows if row.confirm_at), default=None),
    )


async def due_in(
    rt: Runtime, app: AppConfig, order: PollOrder, which: Pass
) -> tuple[list[str], int]:
    """The connections of `app` to read in this pass, most urgent first, and how many may not be."""
    if which == "backfill" and order.window is None:
        return [], 0
    known, circuits = await standings(rt, app, order)
    return of_pass(which, known, order, order.window), circuits


def of_pass(
    which: Pass, standings: Sequence[ReadState], order: PollOrder, window: Window | None
) -> list[str]:
    """The connections to read in this pass. Pure."""
    if which == "backfill":
        return [standing.id for standing in standings if standing.misses(window)]
    if which == "routine":
        return [standing.id for standing in standings if standing.is_due(order)]
    return [standing.id for standing in standings if standing.is_full_due(order)]
