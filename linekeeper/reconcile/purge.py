"""Forgetting what a connection's system holds: on disconnect, and on request."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, exists, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.customers.successors import HEIR_WITHIN
from linekeeper.incidents.findings import resolve_incident
from linekeeper.reconcile.deleting import cause as deletions_cause
from linekeeper.reconcile.unmatched import cause as unmatched_cause
from linekeeper.store import Store, new_id
from linekeeper.store.leases import READS, holding
from linekeeper.store.lists import delete_many
from linekeeper.store.tables import (
    Audit,
    Change,
    Connection,
    Deletion,
    Record,
    Succession,
    SuccessionStep,
    Transition,
    Watermark,
    WebhookTrust,
)
from linekeeper.store.types import table_of

MISSING_FOR = HEIR_WITHIN
"""How long a connection that Makini no longer lists may come back as it was, or be succeeded."""
WAIT_SECONDS = 60.0
"""How long to wait for whoever reads a connection that is to be forgotten."""


AT_ONCE = 2_000
"""Rows a transaction removes: while it does, nobody else writes on SQLite."""


def _is_awaited(now: datetime) -> ColumnElement[bool]:
    """That a successor has yet to take over what is known of its records: it compares with them."""
    return exists().where(
        col(Succession.predecessor_id) == col(Connection.id),
        col(Succession.status) != "done",
        col(Succession.created_at) > now - HEIR_WITHIN,
    )


class StillAwaited(Exception):
    """A successor has yet to take over the records of a connection."""


async def _forget_marks(session: AsyncSession, connection_id: str) -> None:
    """Forget all but the records and their feed: reading again begins with a new baseline,
    whatever is left of them by then.

    What was counted (`drift`) stays. The numbering of its changes goes on, so that no cursor meets
    a number twice.
    """
    for table in (Watermark, Deletion, WebhookTrust, SuccessionStep, Succession):
        await session.execute(delete(table).where(col(table.connection_id) == connection_id))


async def _forget_rows(
    store: Store, connection_id: str, table: Any, *, only_if: Select[Any] | None = None
) -> int:
    """Remove what `table` has of a connection, as long as `only_if` finds it; how many rows."""
    key = tuple_(*table_of(table).primary_key)
    of_it = col(table.connection_id) == connection_id
    rows = select(*table_of(table).primary_key).where(of_it).limit(AT_ONCE)
    total = 0
    while True:
        async with store.write() as session:
            if only_if is not None and await session.scalar(only_if) is None:
                return total
            removing = delete_many(table).where(of_it, key.in_(rows))
            removed = len((await session.execute(removing.returning(literal(1)))).all())
        total += removed
        if removed < AT_ONCE:
            return total


async def forget_records(store: Store, connection_id: str, *, by: str = "") -> int | None:
    """Remove the index, bodies and feed of a connection; how many records went.

    A reading under way is waited for: what it goes on to write would count as the whole, and the
    product would be handed all the rest as new. None where it takes longer than `WAIT_SECONDS`:
    nothing is removed then. `by` is who asked for it. Raises `StillAwaited`.
    """
    async with holding(
        store,
        READS,
        f"purge:{new_id()}",
        subject=connection_id,
        wait=True,
        wait_seconds=WAIT_SECONDS,
    ) as held:
        if held is None:
            return None
        now = utcnow()
        async with store.write() as session:
            awaited = select(_is_awaited(now)).where(col(Connection.id) == connection_id)
            if await session.scalar(awaited):
                raise StillAwaited(connection_id)
            of_it = select(col(Deletion.entity)).where(col(Deletion.connection_id) == connection_id)
            for entity in (await session.scalars(of_it.distinct())).all():
                for cause in (deletions_cause, unmatched_cause):
                    said = f"The records of {entity} were purged: nothing is left to decide"
                    await resolve_incident(
                        store, session, cause(connection_id, entity), said, now=now
                    )
            await _forget_marks(session, connection_id)
        await _forget_rows(store, connection_id, Change)
        gone = await _forget_rows(store, connection_id, Record)
        if by:
            action, detail = "records.purged", {"records": gone}
            async with store.write() as session:
                session.add(
                    Audit(at=now, by=by, action=action, subject=connection_id, detail=detail)
                )
        return gone


async def purge_disconnected(store: Store, *, now: datetime) -> int:
    """Forget what every disconnected connection's system held; how many connections had any.

    One that is only missing from Makini's list is waited for 30 days: it may be the list that
    errs, or its customer who logs in again. What a successor has yet to take over stays as long,
    and so does the feed of one that was replaced: the product may not have read it all.
    """
    missing = (
        select(Transition)
        .where(
            col(Transition.connection_id) == col(Connection.id),
            col(Transition.axis) == "setup",
            col(Transition.after) == "disconnected",
            col(Transition.source) == "list",
            col(Transition.at) > now - MISSING_FOR,
        )
        .exists()
    )
    forgotten = (
        col(Connection.setup) == "disconnected",
        ~missing | col(Connection.replaced_by).is_not(None),
        ~_is_awaited(now),
    )
    async with store.read() as session:
        rows = (
            await session.execute(
                select(col(Connection.id), col(Connection.replaced_by)).where(
                    *forgotten,
                    select(Record).where(col(Record.connection_id) == col(Connection.id)).exists()
                    | select(Watermark)
                    .where(col(Watermark.connection_id) == col(Connection.id))
                    .exists(),
                )
            )
        ).all()
    count = 0
    for identifier, replaced_by in rows:
        # One that is back by now, or while its rows go, is read again.
        still = select(col(Connection.id)).where(col(Connection.id) == identifier, *forgotten)
        still = still.with_for_update(key_share=True)
        async with store.write() as session:
            if await session.scalar(still) is None:
                continue
            await _forget_marks(session, identifier)
        # The records go last: they say that there is something to be forgotten.
        for table in (Record,) if replaced_by is not None else (Change, Record):
            await _forget_rows(store, identifier, table, only_if=still)
        count += 1
    return count
