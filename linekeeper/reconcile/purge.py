"""Forgetting what a connection's system holds: on disconnect, and on request."""

from datetime import datetime

from sqlalchemy import bindparam, delete, exists, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.customers.successors import HEIR_WITHIN
from linekeeper.incidents.findings import resolve_incident
from linekeeper.reconcile.deleting import cause as deletions_cause
from linekeeper.reconcile.unmatched import cause as unmatched_cause
from linekeeper.store import Store, new_id
from linekeeper.store.leases import READS, holding
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

MISSING_FOR = HEIR_WITHIN
"""How long a connection that Makini no longer lists may come back as it was, or be succeeded."""
WAIT_SECONDS = 60.0
"""How long to wait for whoever reads a connection that is to be forgotten."""


_AWAITED = exists().where(
    col(Succession.predecessor_id) == col(Connection.id),
    col(Succession.status) != "done",
    col(Succession.created_at) > bindparam("since"),
)
"""That a successor has yet to take over what is known of its records: it compares with them."""


class StillAwaited(Exception):
    """A successor has yet to take over the records of a connection."""


async def purge(session: AsyncSession, connection_id: str, *, keeps_feed: bool = False) -> int:
    """Remove the index, bodies and feed of a connection that nobody reads; how many records went.

    With `keeps_feed` what the product may still have to read of it stays.

    In the caller's transaction. What was counted (`drift`) stays; reading it again begins with a
    new baseline. The numbering of its changes goes on, so that no cursor meets a number twice.
    """
    gone = await session.execute(delete(Record).where(col(Record.connection_id) == connection_id))
    for table in (Change, Deletion, Watermark, WebhookTrust, SuccessionStep, Succession):
        if keeps_feed and table is Change:
            continue
        await session.execute(delete(table).where(col(table.connection_id) == connection_id))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a delete gives a cursor result


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
            awaited = select(_AWAITED).where(col(Connection.id) == connection_id)
            if await session.scalar(awaited, {"since": now - HEIR_WITHIN}):
                raise StillAwaited(connection_id)
            of_it = select(col(Deletion.entity)).where(col(Deletion.connection_id) == connection_id)
            for entity in (await session.scalars(of_it.distinct())).all():
                for cause in (deletions_cause, unmatched_cause):
                    said = f"The records of {entity} were purged: nothing is left to decide"
                    await resolve_incident(
                        store, session, cause(connection_id, entity), said, now=now
                    )
            gone = await purge(session, connection_id)
            if by:
                action, detail = "records.purged", {"records": gone}
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
    async with store.read() as session:
        rows = (
            await session.execute(
                select(col(Connection.id), col(Connection.replaced_by)).where(
                    col(Connection.setup) == "disconnected",
                    ~missing | col(Connection.replaced_by).is_not(None),
                    ~_AWAITED,
                    select(Record).where(col(Record.connection_id) == col(Connection.id)).exists()
                    | select(Watermark)
                    .where(col(Watermark.connection_id) == col(Connection.id))
                    .exists(),
                ),
                {"since": now - HEIR_WITHIN},
            )
        ).all()
    for identifier, replaced_by in rows:
        async with store.write() as session:
            await purge(session, identifier, keeps_feed=replaced_by is not None)
    return len(rows)
