"""Heartbeats in the database, all by its own clock."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import bindparam, delete, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from linekeeper.store import Store
from linekeeper.store.engine import insert_ignore, insert_or_update, upserting
from linekeeper.store.tables import (
    Audit,
    Connection,
    EndedRun,
    Lease,
    Outbox,
    PartHeartbeat,
    Silence,
)
from linekeeper.store.tables.alerts import PAUSE_WINDOW
from linekeeper.store.types import UtcDateTime, table_of
from linekeeper.watch.decide import AWAKE, ENDED, PAUSE, PREFECT, SWEEPING, WATCHERS, WORKERS, Part

SPAN_ENDS_AFTER = timedelta(seconds=90)
"""Prefect has answered all along if no two answers are further apart."""
RUNS_KEPT = timedelta(days=2)
LONGEST_PAUSE = timedelta(days=365)


async def beat(
    store: Store, part: str, kind: str, host: str, *, process_id: int | None = None, mark: str = ""
) -> None:
    """Say that `part` lives."""
    async with store.write() as session:
        now = await store.clock(session)
        row = {"part": part, "kind": kind, "host": host, "since": now, "at": now, "mark": mark}
        row["process_id"] = process_id
        await insert_or_update(
            store, session, PartHeartbeat, [row], key=["part"], update=["at", "mark"]
        )


async def wake(store: Store, *, quiet_after: timedelta) -> None:
    """Say that nobody watched until now, unless a watcher reported within `quiet_after`."""
    async with store.write() as session:
        now = await store.clock(session)
        watched = select(col(PartHeartbeat.part)).where(
            col(PartHeartbeat.kind).in_(WATCHERS), col(PartHeartbeat.at) > now - quiet_after
        )
        if await session.scalar(watched.limit(1)) is None:
            row = {"part": AWAKE, "kind": AWAKE, "host": "", "since": now, "at": now, "mark": ""}
            await insert_or_update(
                store, session, PartHeartbeat, [row], key=["part"], update=["since", "at"]
            )


async def done(store: Store, work: str) -> None:
    """Say that `work` (`work.WORK`) was completed; `since` is when it was completed before."""
    async with store.write() as session:
        now = await store.clock(session)
        row = {"part": work, "kind": work, "host": "", "since": now, "at": now, "mark": ""}
        await session.execute(_doing(is_sqlite=store.is_sqlite), [row])


@cache
def _doing(*, is_sqlite: bool) -> Any:
    adding = upserting(PartHeartbeat, is_sqlite=is_sqlite)
    changed = {"since": table_of(PartHeartbeat).c.at, "at": adding.excluded.at}
    return adding.on_conflict_do_update(index_elements=["part"], set_=changed)


async def end(store: Store, part: str, kind: str) -> None:
    """Say that `part` ended in good order: it is silent from now on, and not since long ago."""
    async with store.write() as session:
        await session.execute(delete(PartHeartbeat).where(col(PartHeartbeat.part) == part))
        now = await store.clock(session)
        row = {"part": f"{ENDED}:{kind}", "kind": ENDED, "host": kind, "since": now, "at": now}
        await insert_or_update(
            store, session, PartHeartbeat, [row | {"mark": ""}], key=["part"], update=["at"]
        )


async def remove(store: Store, parts: Collection[str]) -> None:
    """Say that `parts` were taken away for good."""
    if parts:
        async with store.write() as session:
            await session.execute(
                delete(PartHeartbeat).where(col(PartHeartbeat.part).in_(sorted(parts)))
            )


async def note_prefect(store: Store, workers: Mapping[str, str], *, paused: bool) -> None:
    """Keep what Prefect just said: each worker's own last heartbeat, and whether we are paused.

    A worker lives where its heartbeat is another than the one seen before, so that neither clock
    needs to be right.
    """
    async with store.write() as session:
        now = await store.clock(session)
        rows = await session.scalars(
            select(PartHeartbeat).where(col(PartHeartbeat.kind).in_((WORKERS, PREFECT)))
        )
        before = {row.part: row for row in rows}
        known = before.get(PREFECT)
        since = known.since if known and now - known.at < SPAN_ENDS_AFTER else now
        changed = [
            {"part": PREFECT, "kind": PREFECT, "host": "", "since": since, "at": now, "mark": ""}
        ]
        for name, mark in workers.items():
            part = f"{WORKERS}:{name}"
            worker = before.get(part)
            if worker is None or worker.mark != mark:
                started = worker.since if worker else now
                changed.append(
                    {
                        "part": part,
                        "kind": WORKERS,
                        "host": name,
                        "since": started,
                        "at": now,
                        "mark": mark,
                    }
                )
        if paused:
            changed.append(
                {"part": PAUSE, "kind": PAUSE, "host": "", "since": now, "at": now, "mark": ""}
            )
        await insert_or_update(
            store, session, PartHeartbeat, changed, key=["part"], update=["since", "at", "mark"]
        )
        await _note_pause(session, paused=paused, now=now)


async def _note_pause(session: AsyncSession, *, paused: bool, now: datetime) -> None:
    """While everything is paused nobody is notified of anything: a window of its own."""
    is_open = (col(Silence.kind) == PAUSE_WINDOW, col(Silence.ended_at).is_(None))
    known = await session.scalar(select(col(Silence.id)).where(*is_open).limit(1))
    if paused and known is None:
        session.add(
            Silence(
                kind=PAUSE_WINDOW,
                scope="all",
                label="everything",
                starts_at=now,
                ends_at=now + LONGEST_PAUSE,
                by="linekeeper",
                reason="the variable linekeeper_paused is set",
            )
        )
    elif known is not None and not paused:
        await session.execute(update(Silence).where(*is_open).values(ends_at=now, ended_at=now))


async def read_parts(session: AsyncSession, *, now: datetime | None = None) -> list[Part]:
    """Every part, and when a backup was last taken; at `now`, what a sweep checks, as well."""
    parts = [Part(*row) for row in await session.execute(_PARTS)]
    last = {"backup": await session.scalar(_TAKEN)}
    if now is not None:
        last[SWEEPING] = await session.scalar(_CHECKED, {"now": now})
    return [*parts, *(Part(name, name, "", at, at) for name, at in last.items() if at)]


_PARTS = select(
    col(PartHeartbeat.part),
    col(PartHeartbeat.kind),
    col(PartHeartbeat.host),
    col(PartHeartbeat.since),
    col(PartHeartbeat.at),
    col(PartHeartbeat.mark),
    col(PartHeartbeat.process_id),
).order_by(col(PartHeartbeat.part))
_TAKEN = (
    select(col(Audit.at))
    .where(col(Audit.action) == "backup.taken")
    .order_by(col(Audit.at).desc())
    .limit(1)
)
_CHECKED = select(func.max(col(Connection.last_checked_at))).where(
    exists().where(
        col(Lease.name) == "health-sweep",
        col(Lease.until) > bindparam("now", type_=UtcDateTime),
    )
)


_FORGET_RUNS = delete(table_of(EndedRun)).where(
    col(EndedRun.at) < bindparam("before", type_=UtcDateTime)
)


async def note_ended(store: Store, run_id: str) -> None:
    """Keep that a flow run came to its own end, whatever it found."""
    async with store.write() as session:
        now = await store.clock(session)
        await insert_ignore(store, session, EndedRun, [{"run_id": run_id, "at": now}])
        await session.execute(_FORGET_RUNS, {"before": now - RUNS_KEPT})


async def consumer_lives(store: Store, within: timedelta) -> bool:
    """Whether a consumer reported `within` that time."""
    async with store.read() as session:
        since = await store.clock(session) - within
        return await session.scalar(_LIVES, {"since": since}) is not None


async def is_delivered(store: Store, after: timedelta) -> bool:
    """Whether no message for Slack is overdue by more than `after`.

    One that waits for the one before it, or for another attempt, is not.
    """
    async with store.read() as session:
        since = await store.clock(session) - after
        return await session.scalar(_OVERDUE, {"since": since}) is None


_SINCE: Any = bindparam("since", type_=UtcDateTime)
_LIVES = (
    select(col(PartHeartbeat.part))
    .where(col(PartHeartbeat.kind) == "consumer", col(PartHeartbeat.at) > _SINCE)
    .limit(1)
)
_EARLIER = aliased(Outbox)
_OVERDUE = (
    select(col(Outbox.id))
    .where(
        col(Outbox.channel) == "slack",
        col(Outbox.status) == "pending",
        col(Outbox.next_attempt_at) < _SINCE,
        ~exists().where(
            col(_EARLIER.ordering_key) == col(Outbox.ordering_key),
            col(_EARLIER.status) == "pending",
            col(_EARLIER.seq) < col(Outbox.seq),
        ),
    )
    .limit(1)
)
