"""Doing events again: first the plan, then the run (MISSION W6). The originals stay as they are.

A replay is a new event that keeps its link to the first (`replay_of`). It is applied as any other
is: by its own time, so an old event about a connection ends `stale`; a record is read as it is
now. It is handed on under the id of the first, so a product that remembers ids takes it once.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    bindparam,
    func,
    insert,
    literal_column,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from linekeeper.config import AppConfig
from linekeeper.inbox.claim import Status
from linekeeper.inbox.identify import ordering_key_of
from linekeeper.inbox.meaning import EventNames, rank_of
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Connection, WebhookEvent
from linekeeper.store.types import UtcDateTime, id_floor, table_of
from linekeeper.text import as_stored

SHOWN = 50
_IN_A_TRANSACTION = 500
_EVENT = table_of(WebhookEvent)
_CLOCKS = timedelta(minutes=1)
"""How far an id may be older than the run, whose clock was perhaps set."""
_DONE = (
    select(func.count())
    .select_from(_EVENT)
    .where(
        _EVENT.c.id >= bindparam("first"),
        _EVENT.c.source == "replay",
        _EVENT.c.received_at == bindparam("now", type_=UtcDateTime),
    )
)
"""How many the run that began then has done."""
_KEPT = (
    "app",
    "connection_ref",
    "url_connection",
    "event",
    "body",
    "body_keys",
    "headers",
)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events: settled as `status`, received since then (UTC), of one connection or all."""

    status: Status
    since: datetime | None = None
    connection_id: str | None = None
    limit: int = 1_000


@dataclass(frozen=True, slots=True)
class ReplayLine:
    """One event of a plan, to look at."""

    id: str
    received_at: datetime
    event: str | None
    connection: str | None
    """Makini's key, or what the sender calls it."""
    error: str | None


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What a replay would do."""

    events: int
    """How many there are, `limit` aside."""
    replayed: int
    """How many a run with this limit does again, the oldest first."""
    by_kind: Mapping[str, int]
    without_body: int
    """Too old: their payloads are pruned, they can't be done again."""
    lines: Sequence[ReplayLine]


async def plan_replay(store: Store, selection: Selection) -> ReplayPlan:
    """What `replay` would do now; nothing is written."""
    async with store.read() as session:
        which = await _which(session, selection)
        kinds = await session.execute(
            select(col(WebhookEvent.kind), col(WebhookEvent.body).is_(None), func.count())
            .where(*which)
            .group_by(col(WebhookEvent.kind), col(WebhookEvent.body).is_(None))
        )
        by_kind: Counter[str] = Counter()
        without_body = 0
        for kind, is_pruned, count in kinds:
            if is_pruned:
                without_body += count
            else:
                by_kind[kind] += count
        rows = await session.execute(
            select(
                col(WebhookEvent.id),
                col(WebhookEvent.received_at),
                col(WebhookEvent.event),
                col(Connection.makini_key),
                col(WebhookEvent.connection_ref),
                col(WebhookEvent.error),
            )
            .outerjoin(Connection, col(Connection.id) == col(WebhookEvent.connection_id))
            .where(*which, col(WebhookEvent.body).is_not(None))
            .order_by(col(WebhookEvent.id))
            .limit(min(SHOWN, selection.limit))
        )
        lines = [ReplayLine(row[0], row[1], row[2], row[3] or row[4], row[5]) for row in rows]
    total = sum(by_kind.values())
    return ReplayPlan(total, min(total, selection.limit), by_kind, without_body, lines)


async def replay(
    store: Store, apps: Mapping[str, AppConfig], selection: Selection, *, now: datetime
) -> AsyncIterator[int]:
    """Do the selected events again, oldest first; yields how many after each transaction.

    `apps` are those configured now, by name. `now` is when the run began: tried again with it, the
    run first yields what it has done already.

    It may be broken off between two of them, and a further run goes on where it stopped: an event
    that was done again is not selected any more (its replay may be).
    """
    names = {name: EventNames(app.entities, app.event_kinds) for name, app in apps.items()}
    async with store.read() as session:
        done: int = await session.scalar(_DONE, {"first": id_floor(now - _CLOCKS), "now": now}) or 0
    if done:
        yield done
    left = selection.limit - done
    while left > 0:
        async with store.write() as session:
            which = await _which(session, selection)
            originals = (
                (
                    await session.execute(
                        select(_EVENT)
                        .where(
                            *which,
                            col(WebhookEvent.body).is_not(None),
                            col(WebhookEvent.received_at) < now,  # not the replays of this run
                        )
                        .order_by(col(WebhookEvent.id))
                        .limit(min(left, _IN_A_TRANSACTION))
                    )
                )
                .mappings()
                .all()
            )
            if originals:
                await session.execute(
                    insert(WebhookEvent),
                    [_again(row, names.get(row["app"]), now) for row in originals],
                )
        if not originals:
            return
        left -= len(originals)
        yield len(originals)


def _again(original: RowMapping, names: EventNames | None, now: datetime) -> dict[str, Any]:
    identity = new_id()
    kind, entity = (
        (original["kind"], original["entity"])
        if names is None
        else names.meaning(original["event"])
    )
    return {
        **{name: original[name] for name in _KEPT},
        "kind": kind,
        "entity": entity if entity is None else as_stored(entity),
        "rank": rank_of(kind),
        "id": identity,
        "delivery_key": f"replay:{identity}",
        "source": "replay",
        "status": "pending",
        "event_at": original["event_at"] or original["received_at"],
        "ordering_key": ordering_key_of(original["app"], original["connection_ref"], identity),
        "received_at": now,
        "next_attempt_at": now,
        "attempts": 0,
        "replay_of": original["replay_of"] or original["id"],
    }


@cache
def not_replayed() -> ColumnElement[bool]:
    """Events that no replay has taken the place of; built once."""
    later = aliased(WebhookEvent)
    first = func.coalesce(col(WebhookEvent.replay_of), col(WebhookEvent.id))
    exists: ColumnElement[bool] = (
        select(col(later.id))
        .where(
            col(later.replay_of).is_not(None),
            col(later.replay_of) == first,
            col(later.id) > col(WebhookEvent.id),
        )
        .exists()
    )
    return ~exists


async def _which(session: AsyncSession, selection: Selection) -> list[ColumnElement[bool]]:
    which: list[ColumnElement[bool]] = [
        # Spelled out, so that the partial indexes are used.
        col(WebhookEvent.status) == literal_column(f"'{selection.status}'"),
        not_replayed(),
    ]
    if selection.since is not None:
        which.append(col(WebhookEvent.received_at) >= selection.since)
    if selection.connection_id is not None:
        known = await session.get(Connection, selection.connection_id)
        names = [] if known is None else [known.makini_key, known.makini_id, known.id]
        which.append(
            or_(
                col(WebhookEvent.connection_id) == selection.connection_id,
                (col(WebhookEvent.app) == (known.app if known else ""))
                & col(WebhookEvent.connection_ref).in_([name for name in names if name]),
            )
        )
    return which
