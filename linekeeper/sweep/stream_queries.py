"""What is seen of each app's webhooks, in a handful of statements whatever the size of the inbox.

Ids are UUIDv7, so the part of the table since a moment is a range of its key.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any, get_args

from sqlalchemy import ColumnElement, bindparam, case, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from linekeeper.inbox.meaning import CANARY, UNKNOWN
from linekeeper.inbox.replay import not_replayed
from linekeeper.inbox.verify import Cause
from linekeeper.reconcile.reachability import receivers_away, standstills
from linekeeper.store.tables import DeliveryCount, WebhookEvent
from linekeeper.store.types import UtcDateTime, id_floor
from linekeeper.sweep.forwards import forwards, is_untaken, refused_forwards
from linekeeper.sweep.habits import app_habits, quiet_connections
from linekeeper.sweep.stream import SETTLED_WITHIN, Stream

LOOK_AGAIN = timedelta(minutes=30)
"""Until then an unrouted event may still find its connection (process-webhooks, 15 min)."""
LAG_SAMPLE = 1_000

REFUSED_CAUSES: tuple[Cause, ...] = get_args(Cause)
"""Every reason for which a delivery is turned away as not genuine."""
REFUSED_SINCE = timedelta(days=1)
REFUSED_KEPT = timedelta(days=7)
"""So far back where people were notified: that nothing comes any more doesn't end it."""


async def read_streams(
    session: AsyncSession,
    apps: Iterable[str],
    *,
    now: datetime,
    refusing: Collection[str] = (),
    destinations: Collection[str] | None = None,
) -> list[Stream]:
    """What is seen of each of `apps` at `now`; of those that are `refusing` people know it.

    Of what is handed on only what is for `destinations` is looked at, where they are given.
    """
    names = sorted(apps)
    waiting = await _waiting(session)
    hour = await _last_hour(session, now)
    dead = await _dead(session, now)
    unrouted = await _unrouted(session, now)
    refusals = await _refusals(session, now)
    in_a_row = await _refused_in_a_row(session, now, refusing)
    lag = await _lag(session, names, now)
    forward = await forwards(session, destinations, now=now)
    refused = await refused_forwards(session, destinations)
    away = await receivers_away(session, now)
    habits = await app_habits(session, away, now)
    quiet = await quiet_connections(session, away, now)
    stood_still = await standstills(session, now) if away else ()
    return [
        Stream(
            app=app,
            standstills=stood_still,
            pending=waiting[app][0],
            oldest_at=waiting[app][1],
            failing=waiting[app][2],
            last_hour=hour[app],
            dead=dead[app][0],
            unreadable=dead[app][1],
            unreadable_lately=dead[app][2],
            unrouted=unrouted[app][0],
            unrouted_to=unrouted[app][1],
            refusals=refusals[app],
            refusals_in_a_row=in_a_row[app],
            lag_seconds=lag[app],
            forward_dead=forward[app].dead,
            forward_dead_error=forward[app].dead_error,
            forward_lost=forward[app].lost,
            forward_untaken=await is_untaken(session, app, forward[app]),
            forward_waiting=forward[app].waiting,
            forward_oldest_at=forward[app].oldest_at,
            forward_error=forward[app].error,
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
    waiting: dict[str, tuple[int, datetime | None, int]] = defaultdict(lambda: (0, None, 0))
    for app, pending, oldest, failing in await session.execute(_WAITING):
        waiting[app] = (pending or 0, oldest, failing or 0)
    return waiting


_CAME: ColumnElement[bool] = col(WebhookEvent.source) == "webhook"
"""Whether it came from outside: a replay is an operator's doing."""
_UNTRIED = col(WebhookEvent.attempts) == 0
_FAILING = aliased(WebhookEvent)
_IN_LINE = _UNTRIED & col(WebhookEvent.ordering_key).not_in(
    select(col(_FAILING.ordering_key)).where(
        col(_FAILING.status) == literal_column("'pending'"), col(_FAILING.attempts) > 0
    )
)
"""Nobody has tried it, and it does not wait for one of its connection that is tried again."""
IS_FAILING: ColumnElement[bool] = ~_UNTRIED & col(WebhookEvent.error).is_not(None) & _CAME
"""Of what waits: whether it was tried in vain."""
_WAITING = (
    select(
        col(WebhookEvent.app),
        func.sum(case((_UNTRIED, 1), else_=0)),
        func.min(case((_IN_LINE, col(WebhookEvent.received_at)))),
        func.sum(case((IS_FAILING, 1), else_=0)),
    )
    .where(col(WebhookEvent.status) == literal_column("'pending'"))
    .group_by(col(WebhookEvent.app))
)
_FIRST: Any = bindparam("first")
_SINCE: Any = bindparam("since", type_=UtcDateTime)
_LAST_HOUR = (
    select(
        col(WebhookEvent.app),
        func.count().label("came"),
    )
    .where(col(WebhookEvent.id) >= _FIRST, _CAME, col(WebhookEvent.kind) != CANARY)
    .group_by(col(WebhookEvent.app))
)


async def _last_hour(session: AsyncSession, now: datetime) -> Counter[str]:
    rows = await session.execute(_LAST_HOUR, {"first": id_floor(now - timedelta(hours=1))})
    return Counter({row.app: row.came for row in rows})


async def _dead(session: AsyncSession, now: datetime) -> dict[str, tuple[int, int, int]]:
    """All that are dead, those of them that can't be read, those of these of the last day."""
    rows = await session.execute(_DEAD, {"since": now - timedelta(days=1)})
    counts: dict[str, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
    return counts | {app: (dead, unread, lately) for app, dead, unread, lately in rows}


_UNREADABLE = (col(WebhookEvent.kind) == literal_column(f"'{UNKNOWN}'")) & col(
    WebhookEvent.event
).is_(None)
"""Its body is no JSON object, or names no event: whoever replays it learns nothing new."""
_DEAD = (
    select(
        col(WebhookEvent.app),
        func.count(),
        func.sum(case((_UNREADABLE, 1), else_=0)),
        func.sum(case((_UNREADABLE & (col(WebhookEvent.processed_at) >= _SINCE), 1), else_=0)),
    )
    .where(col(WebhookEvent.status) == literal_column("'dead'"), not_replayed())
    .group_by(col(WebhookEvent.app))
)
_NAMED = func.coalesce(col(WebhookEvent.connection_ref), col(WebhookEvent.url_connection))
_UNROUTED = (
    select(col(WebhookEvent.app), func.count(), func.max(_NAMED))
    .where(
        col(WebhookEvent.status) == literal_column("'unrouted'"),
        col(WebhookEvent.processed_at) >= _SINCE,
        col(WebhookEvent.processed_at) < bindparam("until", type_=UtcDateTime),
        not_replayed(),
    )
    .group_by(col(WebhookEvent.app))
)
_REFUSED = (
    select(col(DeliveryCount.app), col(DeliveryCount.cause), func.sum(col(DeliveryCount.count)))
    .where(col(DeliveryCount.cause).in_(REFUSED_CAUSES))
    .group_by(col(DeliveryCount.app), col(DeliveryCount.cause))
)
_REFUSED_LATELY = _REFUSED.where(col(DeliveryCount.minute) >= _SINCE)
_REFUSED_AFTER = _REFUSED.where(col(DeliveryCount.minute) > _SINCE)
_REFUSED_OF = _REFUSED_AFTER.where(col(DeliveryCount.app) == bindparam("app"))


async def _unrouted(session: AsyncSession, now: datetime) -> dict[str, tuple[int, str]]:
    """How many, and one of the connections that they name."""
    times = {"since": now - timedelta(days=1), "until": now - LOOK_AGAIN}
    counts: dict[str, tuple[int, str]] = defaultdict(lambda: (0, ""))
    rows = await session.execute(_UNROUTED, times)
    return counts | {app: (count, name or "") for app, count, name in rows}


async def _refusals(session: AsyncSession, now: datetime) -> dict[str, dict[Cause, int]]:
    since = now - timedelta(minutes=10)
    return _by_cause(await session.execute(_REFUSED_LATELY, {"since": since}))


_LAST_ACCEPTED = (
    select(col(WebhookEvent.received_at))
    .where(
        col(WebhookEvent.id) >= _FIRST,
        col(WebhookEvent.app) == bindparam("app"),
        col(WebhookEvent.kind) != CANARY,
        _CAME,
    )
    .order_by(col(WebhookEvent.id).desc())
    .limit(1)
)


async def _refused_in_a_row(
    session: AsyncSession, now: datetime, refusing: Collection[str]
) -> dict[str, dict[Cause, int]]:
    """Deliveries turned away with none accepted since the first of them, by app and by why.

    Those of the last day, and of the last week for an app that is `refusing`. A delivery is
    counted by the minute, so those of the minute of the last accepted one are not. A canary that
    was accepted says nothing of Makini's secret.
    """
    counts: defaultdict[str, dict[Cause, int]] = defaultdict(dict)
    for app in _by_cause(await session.execute(_REFUSED_AFTER, {"since": now - REFUSED_KEPT})):
        since = now - (REFUSED_KEPT if app in refusing else REFUSED_SINCE)
        accepted_at = await session.scalar(_LAST_ACCEPTED, {"app": app, "first": id_floor(since)})
        rows = await session.execute(_REFUSED_OF, {"app": app, "since": accepted_at or since})
        counts[app] = _by_cause(rows)[app]
    return counts


async def _lag(session: AsyncSession, apps: Iterable[str], now: datetime) -> dict[str, float]:
    """Return the lag of the slowest twentieth settled lately, in seconds; first attempts only.

    What was settled before, as after a while without a consumer, says nothing of those that come
    now. Each app has a sample of its own: in one of all, a busy app would hide the others.
    """
    lately = {"first": id_floor(now - timedelta(minutes=15)), "since": now - SETTLED_WITHIN}
    by_app: defaultdict[str, float] = defaultdict(float)
    for app in apps:
        rows = await session.execute(_SETTLED, {**lately, "app": app})
        lags = sorted((done - received).total_seconds() for received, done in rows if done)
        if lags:
            by_app[app] = lags[int(len(lags) * 0.95)]
    return by_app


_SETTLED = (
    select(col(WebhookEvent.received_at), col(WebhookEvent.processed_at))
    .where(
        col(WebhookEvent.app) == bindparam("app"),
        col(WebhookEvent.id) >= _FIRST,
        col(WebhookEvent.status) == "processed",
        col(WebhookEvent.attempts) == 1,
        col(WebhookEvent.processed_at) >= _SINCE,
    )
    .order_by(col(WebhookEvent.id).desc())
    .limit(LAG_SAMPLE)
)


def _by_cause(rows: Iterable[Any]) -> dict[str, dict[Cause, int]]:
    counts: defaultdict[str, dict[Cause, int]] = defaultdict(dict)
    for app, cause, count in rows:
        counts[app][cause] = int(count)
    return counts
