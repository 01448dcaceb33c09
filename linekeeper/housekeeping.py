"""Expired data: delivered outbox rows, old observations."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.outbox.queue import ENDED
from linekeeper.store import Store
from linekeeper.store.lists import count_rows, delete_many
from linekeeper.store.retention import Kind, note_removed
from linekeeper.store.tables import (
    Audit,
    ConnectAttempt,
    FeedRead,
    ForwardAttempt,
    Observation,
    Outbox,
)

BACKUP_TAKEN = "backup.taken"
BATCH = 2_000
"""Rows a transaction: short ones, so that nobody waits long for the lock."""


@dataclass(frozen=True, slots=True)
class PrunedRows:
    """How many rows were removed, or would be."""

    outbox: int
    observations: int
    traces: int
    """Attempts to forward and to log in, and reads of the change feed."""
    audit: int = 0


_KEYS: dict[type[Any], Any] = {
    Outbox: Outbox.id,
    Audit: Audit.id,
    Observation: Observation.id,
    ForwardAttempt: ForwardAttempt.id,
    FeedRead: FeedRead.id,
    ConnectAttempt: ConnectAttempt.nonce,
}
"""What is pruned, and its primary key."""


async def prune(
    store: Store,
    *,
    outbox_before: datetime,
    observations_before: datetime,
    traces_before: datetime,
    audit_before: datetime | None = None,
    dry_run: bool = False,
) -> PrunedRows:
    """Remove outbox rows delivered, observations made and traces left before the times given.

    The audit is kept for good where no time is given for it; when a backup was taken is read from
    it, and stays. What waits, and what is dead and may be replayed, stays. What was removed is
    written down for `explain`. With `dry_run` it only counts.
    """
    # A run may begin long after it was asked for, and is told then whom it follows.
    is_over = col(Outbox.status).in_(ENDED) & col(Outbox.kind).is_distinct_from("follow_up")
    outbox = is_over & (col(Outbox.settled_at) < outbox_before)
    observations = col(Observation.at) < observations_before
    act = _count if dry_run else _remove
    audit = 0
    if audit_before is not None:
        old = (col(Audit.at) < audit_before) & (col(Audit.action) != BACKUP_TAKEN)
        audit = await act(store, Audit, old)
    attempts = await act(store, ForwardAttempt, col(ForwardAttempt.at) < traces_before)
    reads = await act(store, FeedRead, col(FeedRead.at) < traces_before)
    logins = await act(store, ConnectAttempt, col(ConnectAttempt.at) < traces_before)
    pruned = PrunedRows(
        outbox=await act(store, Outbox, outbox),
        observations=await act(store, Observation, observations),
        traces=attempts + reads + logins,
        audit=audit,
    )
    if not dry_run:
        gone: dict[Kind, datetime] = {"outbox": outbox_before, "traces": traces_before}
        await note_removed(store, gone, now=utcnow())
    return pruned


async def _count(store: Store, table: type[Any], which: ColumnElement[bool]) -> int:
    async with store.read() as session:
        return await count_rows(session, table, which)


async def _remove(store: Store, table: type[Any], which: ColumnElement[bool]) -> int:
    removed, key = 0, col(_KEYS[table])
    while True:
        async with store.write() as session:
            batch = select(key).where(which).limit(BATCH)
            gone = await session.execute(delete_many(table).where(key.in_(batch)).returning(key))
            count = len(gone.all())
        removed += count
        if count < BATCH:
            return removed
