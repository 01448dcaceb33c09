"""A clock that was ahead: what it put off waits no longer than it would have by a right one.

PostgreSQL's own clock counts for all machines. SQLite goes by the clock of its one machine, and
when that is set back everything it has written lies in the future: events that just came are due
in hours, claims and leases of the dead run on. What gives it away: a consumer that says that it
lives beyond the next beat, rows that were made later than now, a list that was read later than now,
a pause that Makini asked for later than now.
A consumer that ends takes its beat along; then it is what a receiver lived through, and events that
wait longer than any event is made to wait.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, literal_column, select, text, type_coerce, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.consumer.events import LONGEST_WAIT
from linekeeper.consumer.waker import CHANNELS
from linekeeper.health.held import JUDGED
from linekeeper.health.judge import without_future
from linekeeper.makini.failures import MAX_RETRY_AFTER
from linekeeper.reconcile.policy import POLICY
from linekeeper.store import Store
from linekeeper.store.leases import IS_CONSUMERS
from linekeeper.store.tables import (
    AppState,
    CallPause,
    Connection,
    Lease,
    Outbox,
    ReceiverHeartbeat,
    WebhookEvent,
)
from linekeeper.store.types import UtcDateTime, table_of

SLACK = timedelta(minutes=1)
"""Clocks that are corrected by less are left alone."""
LONGEST_LEASE = timedelta(minutes=10)
RECEIVERS_DIFFER = timedelta(minutes=10)
"""A receiver whose clock differs by less than this gives nothing away."""
LONGEST_PAUSE = timedelta(seconds=MAX_RETRY_AFTER)
"""Makini may ask for it, and no event waits longer."""
_MOST = 1_000
"""Rows that are looked at: those that wait longest."""

_WAS = {
    "watermark": (
        "polled_at", "moved_at", "run_at", "full_at", "counted_at", "sync_failed_at", "synced_at",
    ),
    "incident": ("opened_at", "reopened_at", "resolved_at"),
    "incident_connection": ("joined_at", "left_at"),
    "notice": ("at",),
    "reconnect": ("opened_at", "woken_at"),
    "pending_login": ("received_at",),
    "connection": (
        "health_since", "missing_since", "unlisted_since", "last_answered_at", "last_good_at",
        "last_read_at", "created_at",
    ),
    "customer": ("created_at",),
    "connect_link": ("created_at", "used_at"),
    "customer_link": ("created_at",),
    "record": ("absent_since",),
    "credential": ("refused_at", "renewing_since", "refresh_unanswered_since", "updated_at"),
    "observation": ("at",),
    "transition": ("at",),
    "app_state": ("last_list_at", "listed_since", "removed_at"),
    "app_absence": ("since", "until"),
    "part_heartbeat": ("at",),
    "open_process": ("at",),
    "implementation": ("started_at", "live_at", "forecast_at", "run_at", "abandoned_at"),
    "gate": ("opened_at", "done_at", "skipped_at", "work_at"),
    "outbox": ("settled_at",),
    "outage": ("since", "until", "found_at", "covered_at"),
    "receiver_heartbeat": ("since", "at"),
}  # fmt: skip
"""When something was, where how long ago that is decides what is done next."""

_PUT_RIGHT = (
    """
    UPDATE webhook_event SET received_at = min(received_at, :now),
        event_at = CASE WHEN event_at > :now THEN :now ELSE event_at END,
        next_attempt_at = min(:event_waits, max(:now,
            strftime('%Y-%m-%dT%H:%M:%f', next_attempt_at, :earlier) || '000+00:00'))
    WHERE status = 'pending' AND rank IN (0, 1) AND next_attempt_at > :edge
    """,
    # What was written for later by a right clock, and never tried, stays for then. What was put off
    # since is decided about anew, whichever clock put it off.
    """
    UPDATE outbox SET created_at = min(created_at, :now),
        due_at = CASE WHEN created_at > :edge
                THEN strftime('%Y-%m-%dT%H:%M:%f', due_at, :earlier) || '000+00:00'
            WHEN attempts = 0 AND retry_at IS NOT NULL THEN min(due_at, :now)
            ELSE due_at END,
        next_attempt_at = CASE WHEN attempts = 0 AND retry_at IS NOT NULL THEN :now ELSE
            max(:now, strftime('%Y-%m-%dT%H:%M:%f', next_attempt_at, :earlier) || '000+00:00') END
    WHERE status = 'pending' AND next_attempt_at > :edge
        AND (created_at > :edge OR attempts > 0 OR retry_at IS NOT NULL OR channel = 'forward')
    """,
    """
    UPDATE lease
    SET until = max(:now, strftime('%Y-%m-%dT%H:%M:%f', until, :earlier) || '000+00:00')
    WHERE until > :edge
    """,
    """
    UPDATE connection SET last_checked_at = min(last_checked_at, :now), next_probe_at = :now
    WHERE last_checked_at > :edge OR json_extract(judged, '$.asked_at') > :edge
    """,
    """
    UPDATE watermark SET retry_at =
        max(:now, strftime('%Y-%m-%dT%H:%M:%f', retry_at, :earlier) || '000+00:00')
    WHERE retry_at > :longest
    """,
    "UPDATE watermark SET confirm_at = :now WHERE confirm_at > :tomorrow",
    """
    UPDATE pending_login SET retry_at =
        max(:now, strftime('%Y-%m-%dT%H:%M:%f', retry_at, :earlier) || '000+00:00')
    WHERE received_at > :edge
    """,
    """
    UPDATE call_pause SET refused_at = min(refused_at, :now),
        until = max(:now, strftime('%Y-%m-%dT%H:%M:%f', until, :earlier) || '000+00:00')
    WHERE refused_at > :edge
    """,
    # Or nothing is polled, notified or missed until the wrong time has come.
    *(
        f"UPDATE {table} SET {name} = min(:now, strftime('%Y-%m-%dT%H:%M:%f', {name}, :earlier)"  # noqa: S608
        f" || '000+00:00') WHERE {name} > :edge"
        for table, names in _WAS.items()
        for name in names
    ),
)


async def put_right(store: Store, *, beat: timedelta) -> timedelta | None:
    """Bring forward what a clock that was ahead has put off; returns how far it was ahead.

    `beat` is how long a consumer counts as alive from when it said so. On PostgreSQL nothing is
    done.
    """
    if not store.is_sqlite:
        return None
    now = utcnow()
    async with store.read() as session:
        ahead = await _ahead(session, now, beat)
    if ahead <= SLACK:
        return None
    values = {
        "now": _text(now),
        "edge": _text(now + SLACK),
        "event_waits": _text(now + timedelta(seconds=LONGEST_WAIT)),
        "longest": _text(now + POLICY.retry_longest),
        "tomorrow": _text(now + POLICY.inconsistent + SLACK),
        "earlier": f"-{ahead.total_seconds():.3f} seconds",
    }
    async with store.write() as session:
        for statement in _PUT_RIGHT:
            await session.execute(text(statement), values)
        await _put_judged_right(session, now)
    return ahead


async def _put_judged_right(session: AsyncSession, now: datetime) -> None:
    """What is held of connections is as it is believed from now on, for whoever reads it."""
    rows = await session.execute(
        select(col(Connection.id), type_coerce(col(Connection.judged), JUDGED))
    )
    believed = {row_id: (judged, without_future(judged, now)) for row_id, judged in rows}
    changed = [
        {"which": row_id, "judged_now": after}
        for row_id, (before, after) in believed.items()
        if after is not before
    ]
    if changed:
        await session.execute(_BELIEVE, changed)


async def _ahead(session: AsyncSession, now: datetime, beat: timedelta) -> timedelta:
    """How far the clock was ahead that wrote what lies in the future; nothing if none does."""
    values = {"soon": now + SLACK}
    row = (await session.execute(_FUTURE, values)).one()
    known = (beat, LONGEST_LEASE, RECEIVERS_DIFFER, LONGEST_PAUSE, LONGEST_PAUSE)
    less = (*known, *[timedelta()] * (len(row) - len(known)))
    times = (at - spare for at, spare in zip(row, less, strict=True) if at is not None)
    return max((at - now for at in times), default=timedelta())


def _newest(table: Any, made_at: Any, which: Any) -> Any:
    """When the newest of the rows was made that wait longest."""
    waiting = (
        select(made_at.label("at"))
        .where(which, table.status == _PENDING, table.next_attempt_at > _SOON)
        .order_by(table.next_attempt_at.desc())
        .limit(_MOST)
        .subquery()
    )
    return select(func.max(waiting.c.at)).scalar_subquery()


def _longest_wait(rank: int) -> Any:
    """Until when the event waits that waits longest."""
    which = (col(WebhookEvent.status) == _PENDING, col(WebhookEvent.rank) == rank)
    return select(func.max(col(WebhookEvent.next_attempt_at))).where(*which).scalar_subquery()


def _latest_lease(which: Any) -> Any:
    return select(func.max(col(Lease.until))).where(which).scalar_subquery()


_PENDING: Any = literal_column("'pending'")
"""The status stands in the statement itself, or SQLite doesn't use the index of those pending."""
_SOON: Any = bindparam("soon", type_=UtcDateTime)
_FUTURE = select(
    _latest_lease(IS_CONSUMERS),
    _latest_lease(~IS_CONSUMERS),
    select(func.max(col(ReceiverHeartbeat.at))).scalar_subquery(),
    *(_longest_wait(rank) for rank in (0, 1)),
    *(
        _newest(WebhookEvent, col(WebhookEvent.received_at), col(WebhookEvent.rank) == rank)
        for rank in (0, 1)
    ),
    *(_newest(Outbox, col(Outbox.created_at), col(Outbox.channel) == name) for name in CHANNELS),
    select(func.max(col(AppState.last_list_at))).scalar_subquery(),
    select(func.max(col(CallPause.refused_at))).scalar_subquery(),
)
"""One look for all: the consumer asks it every few seconds."""


_CONNECTION = table_of(Connection)
_BELIEVE = (
    update(_CONNECTION)
    .where(_CONNECTION.c.id == bindparam("which"))
    .values(judged=bindparam("judged_now", type_=JUDGED))
)


def _text(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")
