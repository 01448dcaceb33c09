"""Claiming webhook events, and settling them exactly once (DESIGN "Process").

Whoever claims an event may settle it until the claim runs out; whoever settles proves, in the
transaction that holds the effects, that the claim is still its own.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Literal, NamedTuple

from sqlalchemy import RowMapping, bindparam, literal_column, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.inbox.identify import aside_key
from linekeeper.logs import WAY, passed
from linekeeper.outbox import queue, release
from linekeeper.outbox.queue import Work
from linekeeper.store import Store
from linekeeper.store.bodies import open_payload
from linekeeper.store.cipher import SEALED
from linekeeper.store.engine import upserting
from linekeeper.store.tables import Connection, WebhookEvent, WebhookHour
from linekeeper.store.types import table_of

Status = Literal["processed", "deferred", "stale", "dead", "unrouted"]

MAX_ERROR = 500

_EVENT = table_of(WebhookEvent)


class Event(NamedTuple):
    """A claimed event."""

    id: str
    app: str
    ordering_key: str
    attempts: int
    """This one included."""
    connection_ref: str | None
    url_connection: str | None
    event: str | None
    kind: str
    entity: str | None
    event_at: datetime | None
    received_at: datetime
    replay_of: str | None
    body: bytes | None
    keys_done: bytes | None = None
    """Which of its record keys earlier claims have read: one bit a key, in the order of the body
    (`linekeeper.inbox.plan`)."""

    def __repr__(self) -> str:
        return f"Event(id={self.id!r}, kind={self.kind!r}, ordering_key={self.ordering_key!r})"

    @property
    def aside(self) -> str | None:
        """The order in which it waits while its entity can't be read."""
        return aside_key(self.app, self.connection_ref, self.entity)

    @property
    def at(self) -> datetime:
        """When it happened: the sender's time where it gave one, never after its receipt."""
        return self.event_at or self.received_at


class Claimed(NamedTuple):
    """Events that are ours until `until`, those of each ordering key in order."""

    token: str
    rank: int
    until: datetime
    events: Sequence[Event]


class Settled(NamedTuple):
    """What became of an event."""

    status: Status
    connection_id: str | None = None
    note: str | None = None
    owners: Mapping[str, Sequence[str]] = {}
    """Which keys belong to which connection, where the event named none: by connection id."""

    @property
    def connections(self) -> list[str]:
        """The ids of those it is about."""
        return list(self.owners) or list(filter(None, (self.connection_id,)))


class EventRetry(NamedTuple):
    """An event to try again, in the order that it says."""

    event: Event
    until: datetime
    error: str
    is_counted: bool = True
    """Whether the attempt counts towards giving it up: not where it was only waited."""


async def claim_events(
    store: Store, owner: str, *, rank: int, limit: int, now: datetime, token: str | None = None
) -> Claimed:
    """Claim up to `limit` events of `rank` (0: about connections, 1: about records).

    A claim clears the merge key in the same transaction: the same content after it is a new event.
    `token` is as in `queue.claim`.
    """
    work = _work(rank)
    async with store.read() as session:
        if not await queue.is_due(session, work, now=now):
            return Claimed("", rank, now, ())
    claimed = await queue.claim(store, work, owner, limit=limit, now=now, token=token)
    events = [
        opened(store, Event(**{name: row[name] for name in Event._fields})) for row in claimed.rows
    ]
    if WAY.isEnabledFor(logging.INFO):
        passed("claimed", [event.id for event in events])
    return Claimed(claimed.token, rank, claimed.until, events)


def opened(store: Store, event: Event) -> Event:
    """`event` with its body readable: that of one to be done again is encrypted."""
    if event.body is None or not event.body.startswith(SEALED):
        return event
    return event._replace(body=open_payload(store.cipher, event.body))


_STILL_OURS = (
    select(_EVENT.c.id)
    .where(
        _EVENT.c.id.in_(bindparam("ids", expanding=True)),
        _EVENT.c.claimed_by == bindparam("token"),
        _EVENT.c.status == literal_column("'pending'"),
    )
    .with_for_update()
)


async def still_ours(
    session: AsyncSession, claimed: Claimed, events: Sequence[Event]
) -> list[Event]:
    """Those of `events` the claim still holds, locked until the caller's transaction ends.

    First step of every transaction with effects: what another consumer took over is left out.
    """
    given = {"ids": [event.id for event in events], "token": claimed.token}
    ours = set(await session.scalars(_STILL_OURS, given))
    return [event for event in events if event.id in ours]


async def settle(session: AsyncSession, settled: Mapping[str, Settled], *, now: datetime) -> None:
    """Write what became of events that are `still_ours`, by id."""
    await _update(
        session,
        {
            "status": "new_status",
            "connection_id": "new_connection_id",
            "error": "new_error",
        },
        [
            {
                "row_id": event_id,
                "new_status": settlement.status,
                "new_connection_id": settlement.connection_id,
                "new_error": settlement.note[:MAX_ERROR] if settlement.note else None,
            }
            for event_id, settlement in settled.items()
        ],
        claimed_by=None,
        claim_owner=None,
        processed_at=now,
    )


async def remember_keys(session: AsyncSession, done: Mapping[str, bytes]) -> None:
    """Note which keys of events that are `still_ours` are done, by the event's id.

    That something came of an event ends what had failed of it: this attempt is its first again.
    """
    await _update(
        session,
        {"keys_done": "new_keys_done"},
        [{"row_id": event_id, "new_keys_done": keys} for event_id, keys in done.items()],
        attempts=1,
    )


async def schedule_retry(session: AsyncSession, retries: Sequence[EventRetry]) -> None:
    """Try events that are `still_ours` again, each at its time."""
    await _update(
        session,
        {
            "next_attempt_at": "new_until",
            "attempts": "new_attempts",
            "error": "new_error",
            "ordering_key": "new_ordering_key",
        },
        [
            {
                "row_id": retry.event.id,
                "new_until": retry.until,
                "new_attempts": max(1, retry.event.attempts - (not retry.is_counted)),
                "new_error": retry.error[:MAX_ERROR],
                "new_ordering_key": retry.event.ordering_key,
            }
            for retry in retries
        ],
        claimed_by=None,
        claim_owner=None,
    )


async def release_claim(
    session: AsyncSession, claimed: Claimed, until: Sequence[tuple[Event, datetime]]
) -> None:
    """Let go of events nobody tried, each with when it may be claimed again."""
    await queue.release_claim(
        session,
        _work(claimed.rank),
        claimed.token,
        {event.id: at for event, at in until},
        ordering_keys={event.id: event.ordering_key for event, _ in until},
    )


async def release_all(store: Store, token: str, *, rank: int) -> None:
    """Let go of every event of `rank` that the claim `token` holds, due at once."""
    await release.release_all(store, _work(rank), token)


def _aside(row: RowMapping) -> str | None:
    return aside_key(row["app"], row["connection_ref"], row["entity"])


@cache
def _work(rank: int) -> Work:
    return Work(
        table=_EVENT,
        order=_EVENT.c.id,
        which=_EVENT.c.rank == rank,
        columns=[
            _EVENT.c[name]
            for name in Event._fields
            if name not in ("id", "ordering_key", "attempts")
        ],
        also={"merge_key": None},
        aside=_aside,
    )


async def _update(
    session: AsyncSession,
    columns: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
    **constants: Any,
) -> None:
    if not rows:
        return
    same = {f"same_{name}": value for name, value in constants.items()}
    names = {**columns, **{name: f"same_{name}" for name in constants}}
    await session.execute(_updating(tuple(names.items())), [{**row, **same} for row in rows])


@cache
def _updating(columns: Sequence[tuple[str, str]]) -> Any:
    """The statement of `_update`: built once for each set of columns, whatever is written."""
    values = {name: bindparam(to, type_=_EVENT.c[name].type) for name, to in columns}
    return update(_EVENT).where(_EVENT.c.id == bindparam("row_id")).values(values)


_CONNECTION = table_of(Connection)
_HOUR = table_of(WebhookHour)


def hour_of(at: datetime) -> int:
    """Whole hours since 1970."""
    return int(at.timestamp() // 3600)


_AT: Any = bindparam("at", type_=_CONNECTION.c.last_webhook_at.type)
_LAST_WEBHOOK = (
    update(_CONNECTION)
    .where(
        _CONNECTION.c.id == bindparam("row_id"),
        or_(_CONNECTION.c.last_webhook_at.is_(None), _CONNECTION.c.last_webhook_at < _AT),
    )
    .values(last_webhook_at=_AT)
)


@cache
def _counting(*, is_sqlite: bool) -> Any:
    adding = upserting(WebhookHour, is_sqlite=is_sqlite)
    return adding.on_conflict_do_update(
        index_elements=["connection_id", "hour"],
        set_={"events": _HOUR.c.events + adding.excluded.events},
    )


async def leave_traces(
    store: Store, session: AsyncSession, arrivals: Sequence[tuple[str, datetime]]
) -> None:
    """Note `arrivals` (connection id, time of receipt), in the transaction that settles them."""
    if not arrivals:
        return
    last: dict[str, datetime] = {}
    for connection_id, at in arrivals:
        last[connection_id] = max(at, last.get(connection_id, at))
    await session.execute(
        _LAST_WEBHOOK, [{"row_id": row_id, "at": last[row_id]} for row_id in sorted(last)]
    )
    counts = Counter((connection_id, hour_of(at)) for connection_id, at in arrivals)
    await session.execute(
        _counting(is_sqlite=store.is_sqlite),
        [
            {"connection_id": connection_id, "hour": hour, "events": count}
            for (connection_id, hour), count in sorted(counts.items())
        ],
    )
