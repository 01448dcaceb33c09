"""How regularly webhooks come, and for how long none has come that could have (MISSION W7).

None could come while no receiver of ours lived, nor from a connection that was not healthy: neither
is its sender's silence, nor a habit of silence.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Integer, bindparam, case, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from linekeeper.health.evidence import FALLEN
from linekeeper.inbox.claim import hour_of
from linekeeper.inbox.retention import HABIT_DAYS
from linekeeper.reconcile.causes import Window, overlap
from linekeeper.store.engine import chunked
from linekeeper.store.health_changes import HEALTH_CHANGES
from linekeeper.store.tables import Connection, Transition, WebhookHour
from linekeeper.store.types import UtcDateTime
from linekeeper.sweep.stream import Habit

QUIET_FROM = timedelta(hours=3)
"""Only connections quiet for so long are looked at closely."""
MOST_AWAY = 16
"""So many of our own absences are left out of the gaps, the longest ones."""

HoursAway = tuple[int, int]
"""The first hour in which no receiver lived, and the first one in which one did again."""


def excused(
    last_at: datetime, healthy_since: datetime | None, away: Iterable[Window], now: datetime
) -> timedelta:
    """How much of the silence since `last_at` is not the sender's. Pure.

    `healthy_since` is since when a webhook could come from there; None: none can.
    """
    if healthy_since is None:
        return now - last_at
    able = Window(max(last_at, healthy_since), now)
    ours = sum((overlap(window, able) for window in away), timedelta())
    return able.since - last_at + ours


def hours_away(away: Iterable[Window]) -> list[HoursAway]:
    """The whole hours of `away`, as `WebhookHour` counts them, the longest ones. Pure."""
    whole = [(hour_of(window.since) + 1, hour_of(window.until)) for window in away]
    longest = sorted(whole, key=lambda hours: hours[0] - hours[1])[:MOST_AWAY]
    return [(since, until) for since, until in longest if until > since]


def longest_gap(hours: Iterable[int], away: Sequence[HoursAway] = ()) -> int:
    """The greatest distance between two neighbours of ascending `hours`, without `away`. Pure."""
    longest, before = 0, None
    for hour in hours:
        if before is not None:
            ours = sum(max(0, min(hour, until) - max(before, since)) for since, until in away)
            longest = max(longest, hour - before - ours)
        before = hour
    return longest


_IS_WELL = (col(Connection.setup) == "live") & (col(Connection.health) == "healthy")
_HOURS = (
    select(col(Connection.app), col(WebhookHour.hour))
    .join(Connection, col(Connection.id) == col(WebhookHour.connection_id))
    .where(col(WebhookHour.hour) >= bindparam("hour"))
    .group_by(col(Connection.app), col(WebhookHour.hour))
    .order_by(col(Connection.app), col(WebhookHour.hour))
)
_LAST = (
    select(
        col(Connection.app),
        func.max(col(Connection.last_webhook_at)),
        func.min(case((_IS_WELL, col(Connection.health_since)))),
    )
    .where(col(Connection.last_webhook_at).is_not(None))
    .group_by(col(Connection.app))
)


async def app_habits(
    session: AsyncSession, away: Sequence[Window], now: datetime
) -> dict[str, Habit]:
    """The habit of each app. Where none of its connections is healthy nothing can come."""
    rows = await session.execute(_HOURS, {"hour": hour_of(now - timedelta(days=HABIT_DAYS))})
    hours: defaultdict[str, list[int]] = defaultdict(list)
    for app, hour in rows:
        hours[app].append(hour)
    ours = hours_away(away)
    return {
        app: Habit(
            app,
            last_at,
            len(hours[app]),
            longest_gap(hours[app], ours),
            excused(last_at, healthy_since, away, now),
        )
        for app, last_at, healthy_since in await session.execute(_LAST)
        if last_at
    }


async def quiet_connections(
    session: AsyncSession, away: Sequence[Window], now: datetime
) -> dict[str, Sequence[Habit]]:
    """The habits of healthy connections from which nothing came for hours, by app."""
    ours = hours_away(away)
    times: dict[str, Any] = {
        "hour": hour_of(now - timedelta(days=HABIT_DAYS)),
        "since": now - QUIET_FROM,
    }
    for number, (since, until) in enumerate(ours):
        times |= {f"since_{number}": since, f"until_{number}": until}
    habits: defaultdict[str, list[Habit]] = defaultdict(list)
    rows = (await session.execute(_quiet_ones(len(ours)), times)).all()
    without = await _gaps_without_falls(session, ours, now) if rows else {}
    for identifier, app, name, last_at, healthy_since, hours, longest in rows:
        not_theirs = excused(last_at, healthy_since, away, now)
        gap = without.get(identifier, longest or 0)
        habits[app].append(Habit(name, last_at, hours, gap, not_theirs))
    return defaultdict(tuple, {app: tuple(entries) for app, entries in habits.items()})


def fallen(turns: Iterable[Any], since: datetime, now: datetime) -> list[Window]:
    """When a connection could send nothing, by the changes of its health since then. Pure.

    The changes come in order; each says what it was `before` and `after`.
    """
    windows: list[Window] = []
    began: datetime | None = None
    for number, turn in enumerate(turns):
        if number == 0 and turn.before in FALLEN:
            began = since
        if turn.after in FALLEN:
            began = began or turn.at
        elif began is not None:
            windows.append(Window(began, turn.at))
            began = None
    return [*windows, Window(began, now)] if began is not None else windows


def merged(spans: Iterable[HoursAway]) -> list[HoursAway]:
    """The same hours without overlaps. Pure."""
    whole: list[HoursAway] = []
    for since, until in sorted(spans):
        if whole and since <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(whole[-1][1], until))
        else:
            whole.append((since, until))
    return whole


async def _gaps_without_falls(
    session: AsyncSession, ours: Sequence[HoursAway], now: datetime
) -> dict[str, int]:
    """The longest gap of each quiet connection that fell lately, without the time of its falls."""
    since = now - timedelta(days=HABIT_DAYS)
    given = {"from": since, "since": now - QUIET_FROM}
    turns: defaultdict[str, list[Any]] = defaultdict(list)
    for turn in await session.execute(_TURNS, given):
        turns[turn.of].append(turn)
    falls = {each: hours_away(fallen(changes, since, now)) for each, changes in turns.items()}
    falls = {each: hours for each, hours in falls.items() if hours}
    came: defaultdict[str, list[int]] = defaultdict(list)
    for ids in chunked(sorted(falls), 5_000):
        for each, hour in await session.execute(_CAME, {"ids": ids, "hour": hour_of(since)}):
            came[each].append(hour)
    return {each: longest_gap(came[each], merged([*ours, *falls[each]])) for each in falls}


_TURNED = aliased(Connection)
_QUIET = _IS_WELL & (col(Connection.last_webhook_at) < bindparam("since", type_=UtcDateTime))
_TURNS = (
    # Whose successor it is may have fallen, and never have come back.
    HEALTH_CHANGES.join(_TURNED, col(_TURNED.id) == col(Transition.connection_id))
    .join(Connection, col(Connection.id).in_((col(_TURNED.id), col(_TURNED.replaced_by))))
    .add_columns(col(Connection.id).label("of"))
    .where(
        col(Transition.at) >= bindparam("from", type_=UtcDateTime),
        _QUIET,
    )
    .order_by(col(Connection.id), col(Transition.at), col(Transition.id))
)
_CAME = (
    select(col(WebhookHour.connection_id), col(WebhookHour.hour))
    .where(
        col(WebhookHour.connection_id).in_(bindparam("ids", expanding=True)),
        col(WebhookHour.hour) >= bindparam("hour"),
    )
    .order_by(col(WebhookHour.connection_id), col(WebhookHour.hour))
)


@cache
def _quiet_ones(absences: int) -> Any:
    """The statement that leaves out so many absences of ours."""
    hour = col(WebhookHour.hour)
    before = func.lag(hour).over(
        partition_by=col(WebhookHour.connection_id), order_by=col(WebhookHour.hour)
    )
    neighbours = (
        select(
            col(WebhookHour.connection_id).label("connection_id"),
            hour.label("hour"),
            before.cast(Integer).label("before"),
        )
        .join(Connection, col(Connection.id) == col(WebhookHour.connection_id))
        .where(
            col(WebhookHour.hour) >= bindparam("hour"),
            _QUIET,
        )
        .subquery()
    )
    gap: ColumnElement[int] = neighbours.c.hour - neighbours.c.before
    for number in range(absences):
        gap = gap - _ours(neighbours.c.before, neighbours.c.hour, number)
    return (
        select(
            col(Connection.id),
            col(Connection.app),
            col(Connection.name),
            col(Connection.last_webhook_at),
            col(Connection.health_since),
            func.count(),
            func.max(gap),
        )
        .join(Connection, col(Connection.id) == neighbours.c.connection_id)
        .group_by(
            col(Connection.id),
            col(Connection.app),
            col(Connection.name),
            col(Connection.last_webhook_at),
            col(Connection.health_since),
        )
        .order_by(col(Connection.name))
    )


def _ours(before: ColumnElement[int], hour: ColumnElement[int], number: int) -> ColumnElement[int]:
    """How many hours between the two are of one absence of ours."""
    since: Any = bindparam(f"since_{number}", type_=Integer)
    until: Any = bindparam(f"until_{number}", type_=Integer)
    first = case((before > since, before), else_=since)
    last = case((hour < until, hour), else_=until)
    return case((last > first, last - first), else_=literal(0))
