"""What is seen of each app's webhooks, in a handful of statements whatever the size of the inbox.

Ids are UUIDv7, so the part of the table since a moment is a range of its key.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, get_args

from sqlalchemy import Integer, case, func, literal_column, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from linekeeper.inbox.kinds import CANARY
from linekeeper.inbox.replay import not_replayed
from linekeeper.inbox.retention import HABIT_DAYS
from linekeeper.inbox.traces import hour_of
from linekeeper.inbox.verify import Cause
from linekeeper.outbox.forward import CHANNEL
from linekeeper.store.tables import Connection, DeliveryCount, Outbox, WebhookEvent, WebhookHour
from linekeeper.store.types import id_floor
from linekeeper.sweep.stream import Habit, Stream, longest_gap

QUIET_FROM = timedelta(hours=3)
"""Only connections quiet for so long are looked at closely."""
LOOK_AGAIN = timedelta(minutes=30)
"""Until then an unrouted event may still find its connection (process-webhooks, 15 min)."""
LAG_SAMPLE = 1_000
REFUSED_TIMES = 3
"""A message refused less often may be a product that restarts."""

REFUSED_CAUSES: tuple[Cause, ...] = get_args(Cause)
"""Every reason for which a delivery is turned away as not genuine."""
REFUSED_SINCE = timedelta(days=1)


async def read_streams(
    session: AsyncSession, apps: Iterable[str], *, now: datetime
) -> list[Stream]:
    """What is seen of each of `apps` at `now`."""
    names = sorted(apps)
    waiting = await _waiting(session)
    hour = await _last_hour(session, now)
    dead = await _dead(session)
    unrouted = await _unrouted(session, now)
    forged = await _forged(session, now)
    in_a_row = await _refused_in_a_row(session, now) if await _any_refused(session, now) else {}
    lag = await _lag(session, now)
    forward = await _forward(session)
    refused = await _refused(session)
    habits = await _app_habits(session, now)
    quiet = await _quiet(session, now)
    return [
        Stream(
            app=app,
            pending=waiting[app][0],
            oldest_at=waiting[app][1],
            failing=waiting[app][2],
            last_hour=hour[app][0],
            dead_last_hour=hour[app][1],
            dead=dead[app],
            unrouted=unrouted[app],
            forged=forged[app],
            refused_in_a_row=in_a_row.get(app, 0),
            lag_seconds=lag[app],
            forward_dead=forward[app][0],
            forward_waiting=forward[app][1],
            forward_oldest_at=forward[app][2],
            forward_error=forward[app][3],
            refused=refused[app][0],
            refused_at=refused[app][1],
            refused_error=refused[app][2],
            forward_gone=refused[app][3],
            habit=habits.get(app),
            quiet=quiet[app],
        )
        for app in names
    ]


async def _waiting(
    session: AsyncSession,
) -> dict[str, tuple[int, datetime | None, int]]:
    untried = col(WebhookEvent.attempts) == 0
    rows = await session.execute(
        select(
            col(WebhookEvent.app),
            func.sum(case((untried, 1), else_=0)),
            func.min(case((untried, col(WebhookEvent.received_at)))),
            func.sum(case((~untried & col(WebhookEvent.error).is_not(None), 1), else_=0)),
        )
        .where(col(WebhookEvent.status) == literal_column("'pending'"))
        .group_by(col(WebhookEvent.app))
    )
    found: dict[str, tuple[int, datetime | None, int]] = defaultdict(lambda: (0, None, 0))
    for app, pending, oldest, failing in rows:
        found[app] = (pending or 0, oldest, failing or 0)
    return found


async def _last_hour(session: AsyncSession, now: datetime) -> dict[str, tuple[int, int]]:
    dead = case((col(WebhookEvent.status) == "dead", 1), else_=0)
    rows = await session.execute(
        select(col(WebhookEvent.app), func.count(), func.sum(dead))
        .where(col(WebhookEvent.id) >= id_floor(now - timedelta(hours=1)))
        .group_by(col(WebhookEvent.app))
    )
    found: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for app, every, bad in rows:
        found[app] = (every, bad or 0)
    return found


async def _dead(session: AsyncSession) -> dict[str, int]:
    rows = await session.execute(
        select(col(WebhookEvent.app), func.count())
        .where(col(WebhookEvent.status) == literal_column("'dead'"), not_replayed())
        .group_by(col(WebhookEvent.app))
    )
    return _counts(rows)


async def _unrouted(session: AsyncSession, now: datetime) -> dict[str, int]:
    rows = await session.execute(
        select(col(WebhookEvent.app), func.count())
        .where(
            col(WebhookEvent.status) == literal_column("'unrouted'"),
            col(WebhookEvent.processed_at) >= now - timedelta(days=1),
            col(WebhookEvent.processed_at) < now - LOOK_AGAIN,
            not_replayed(),
        )
        .group_by(col(WebhookEvent.app))
    )
    return _counts(rows)


async def _forged(session: AsyncSession, now: datetime) -> dict[str, int]:
    rows = await session.execute(
        select(col(DeliveryCount.app), func.sum(col(DeliveryCount.count)))
        .where(
            col(DeliveryCount.minute) >= now - timedelta(minutes=10),
            col(DeliveryCount.cause).in_(REFUSED_CAUSES),
        )
        .group_by(col(DeliveryCount.app))
    )
    return _counts(rows)


async def _any_refused(session: AsyncSession, now: datetime) -> bool:
    """Whether enough was turned away in the last day to look closer: usually it wasn't."""
    count = await session.scalar(
        select(func.sum(col(DeliveryCount.count))).where(
            col(DeliveryCount.minute) >= now - REFUSED_SINCE,
            col(DeliveryCount.cause).in_(REFUSED_CAUSES),
        )
    )
    return bool(count)


async def _refused_in_a_row(session: AsyncSession, now: datetime) -> dict[str, int]:
    """Deliveries turned away in the last day with none accepted since the first of them, by app.

    A delivery is counted by the minute, so those of the minute of the last accepted one are not.
    A canary that was accepted says nothing of Makini's secret.
    """
    since = now - REFUSED_SINCE
    accepted = (
        select(col(WebhookEvent.app), func.max(col(WebhookEvent.received_at)).label("at"))
        .where(col(WebhookEvent.id) >= id_floor(since), col(WebhookEvent.kind) != CANARY)
        .group_by(col(WebhookEvent.app))
        .subquery()
    )
    rows = await session.execute(
        select(col(DeliveryCount.app), func.sum(col(DeliveryCount.count)))
        .outerjoin(accepted, accepted.c.app == col(DeliveryCount.app))
        .where(
            col(DeliveryCount.minute) >= since,
            col(DeliveryCount.cause).in_(REFUSED_CAUSES),
            or_(accepted.c.at.is_(None), col(DeliveryCount.minute) > accepted.c.at),
        )
        .group_by(col(DeliveryCount.app))
    )
    return _counts(rows)


async def _lag(session: AsyncSession, now: datetime) -> dict[str, float]:
    """Of the slowest twentieth of what was settled lately, in seconds; first attempts only."""
    rows = await session.execute(
        select(col(WebhookEvent.app), col(WebhookEvent.received_at), col(WebhookEvent.processed_at))
        .where(
            col(WebhookEvent.id) >= id_floor(now - timedelta(minutes=15)),
            col(WebhookEvent.status) == "processed",
            col(WebhookEvent.attempts) == 1,
        )
        .order_by(col(WebhookEvent.id).desc())
        .limit(LAG_SAMPLE)
    )
    lags: defaultdict[str, list[float]] = defaultdict(list)
    for app, received, processed in rows:
        if processed is not None:
            lags[app].append((processed - received).total_seconds())
    found: defaultdict[str, float] = defaultdict(float)
    for app, some in lags.items():
        found[app] = sorted(some)[int(len(some) * 0.95)]
    return found


async def _forward(
    session: AsyncSession,
) -> dict[str, tuple[int, int, datetime | None, str]]:
    found: dict[str, tuple[int, int, datetime | None, str]] = defaultdict(lambda: (0, 0, None, ""))
    behind = aliased(Outbox)
    held_up = col(Outbox.lane).in_(
        select(col(behind.lane)).where(
            col(behind.channel) == CHANNEL,
            col(behind.status) == "pending",
            col(behind.refusal) == "refused",
        )
    )
    app = _app_of_lane(session)
    rows = await session.execute(
        select(
            app,
            col(Outbox.status),
            func.count(),
            func.min(case((~held_up, col(Outbox.created_at)))),
            func.max(case((~held_up, col(Outbox.error)))),
        )
        .where(col(Outbox.channel) == CHANNEL, col(Outbox.status).in_(["pending", "dead"]))
        .group_by(app, col(Outbox.status))
    )
    for name, status, count, oldest, error in rows:
        dead, waiting, since, why = found[name]
        if status == "dead":
            found[name] = (count, waiting, since, why)
        else:
            found[name] = (dead, count, oldest, error or "")
    return found


async def _refused(session: AsyncSession) -> dict[str, tuple[int, datetime | None, str, str]]:
    """How many the product refuses time after time, since when, why; its word that it is gone."""
    found: dict[str, tuple[int, datetime | None, str, str]] = defaultdict(lambda: (0, None, "", ""))
    app, error, refusal = _app_of_lane(session), col(Outbox.error), col(Outbox.refusal)
    again = (refusal == "refused") & (col(Outbox.attempts) >= REFUSED_TIMES)
    rows = await session.execute(
        select(
            app,
            func.sum(case((again, 1), else_=0)),
            func.min(case((again, col(Outbox.created_at)))),
            func.min(case((again, error))),
            func.min(case((refusal == "gone", error))),
        )
        .where(
            col(Outbox.channel) == CHANNEL,
            col(Outbox.status) == "pending",
            refusal.is_not(None),
        )
        .group_by(app)
    )
    for name, count, oldest, why, gone in rows:
        found[name] = (int(count or 0), oldest, why or "", gone or "")
    return found


def _app_of_lane(session: AsyncSession) -> Any:
    """The app is in the lane: `forward:<app>/…`, or `forward:<app>@<target>/…`.

    No app's name has one of the two in it.
    """
    rest = func.substr(col(Outbox.lane), len(CHANNEL) + 2)
    marked = func.replace(rest, "@", "/")
    sqlite = session.get_bind().dialect.name == "sqlite"
    place = func.instr(marked, "/") if sqlite else func.strpos(marked, "/")
    return func.substr(rest, 1, place - 1)


async def _app_habits(session: AsyncSession, now: datetime) -> dict[str, Habit]:
    rows = await session.execute(
        select(col(Connection.app), col(WebhookHour.hour))
        .join(Connection, col(Connection.id) == col(WebhookHour.connection_id))
        .where(col(WebhookHour.hour) >= hour_of(now - timedelta(days=HABIT_DAYS)))
        .group_by(col(Connection.app), col(WebhookHour.hour))
        .order_by(col(Connection.app), col(WebhookHour.hour))
    )
    hours: defaultdict[str, list[int]] = defaultdict(list)
    for app, hour in rows:
        hours[app].append(hour)
    last = await session.execute(
        select(col(Connection.app), func.max(col(Connection.last_webhook_at)))
        .where(col(Connection.last_webhook_at).is_not(None))
        .group_by(col(Connection.app))
    )
    return {app: Habit(app, at, len(hours[app]), longest_gap(hours[app])) for app, at in last if at}


async def _quiet(session: AsyncSession, now: datetime) -> dict[str, Sequence[Habit]]:
    since = hour_of(now - timedelta(days=HABIT_DAYS))
    gap = col(WebhookHour.hour) - func.lag(col(WebhookHour.hour)).over(
        partition_by=col(WebhookHour.connection_id), order_by=col(WebhookHour.hour)
    )
    gaps = (
        select(
            col(WebhookHour.connection_id).label("connection_id"),
            gap.cast(Integer).label("gap"),
        )
        .join(Connection, col(Connection.id) == col(WebhookHour.connection_id))
        .where(
            col(WebhookHour.hour) >= since,
            col(Connection.setup) == "live",
            col(Connection.health) == "healthy",
            col(Connection.last_webhook_at) < now - QUIET_FROM,
        )
        .subquery()
    )
    rows = await session.execute(
        select(
            col(Connection.app),
            col(Connection.name),
            col(Connection.last_webhook_at),
            func.count(),
            func.max(gaps.c.gap),
        )
        .join(Connection, col(Connection.id) == gaps.c.connection_id)
        .group_by(
            col(Connection.id),
            col(Connection.app),
            col(Connection.name),
            col(Connection.last_webhook_at),
        )
        .order_by(col(Connection.name))
    )
    found: defaultdict[str, list[Habit]] = defaultdict(list)
    for app, name, last_at, hours, longest in rows:
        found[app].append(Habit(name, last_at, hours, longest or 0))
    return defaultdict(tuple, {app: tuple(some) for app, some in found.items()})


def _counts(rows: Iterable[Any]) -> dict[str, int]:
    found: defaultdict[str, int] = defaultdict(int)
    for app, count in rows:
        found[app] = int(count or 0)
    return found
