"""From what two complete listings lack to tombstones: marked, agreed, applied, undone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.inbox.forward import RecoveredChange, forward_changes
from linekeeper.reconcile.accounting import Counts, count_due
from linekeeper.reconcile.deletes import UNDO, is_believed
from linekeeper.reconcile.incidents import open_incident, resolve_incident
from linekeeper.reconcile.listing import KeySet
from linekeeper.reconcile.marks import save_mark
from linekeeper.reconcile.policy import POLICY
from linekeeper.reconcile.queries import append_changes, lock_feed, one_of
from linekeeper.reconcile.target import Target
from linekeeper.runtime import Runtime
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Deletion, Record

TOPIC = "deletions"
_SCAN = 5_000
_AT_ONCE = 500


@dataclass(slots=True)
class Concluded:
    """What a complete listing said about what is gone."""

    counts: Counts = field(default_factory=Counts)
    held_back: int = 0
    """Records that look deleted but are too many to believe it."""


async def conclude_listing(
    rt: Runtime,
    target: Target,
    entity: str,
    keys: KeySet,
    *,
    started: datetime,
    run_at: datetime,
    again: bool = False,
) -> Concluded:
    """Compare the index with the complete listing `keys` that began at `started`.

    What it lacks for the first time is marked; what an earlier one lacked too is deleted, unless
    that is over the cap: then nothing is, and an incident asks somebody to decide. `again` asks
    for another listing in the next run, whatever this one says.
    """
    store, result = rt.store, Concluded()
    absent, agreed, live = await _missing(store, target.id, entity, keys, started)
    now = utcnow()
    async with store.write() as session:
        await lock_feed(store, session, target.id)
        for start in range(0, len(absent), _AT_ONCE):
            await session.execute(
                update(Record)
                .where(*_of(target.id, entity))
                .where(one_of(store, Record.key, absent[start : start + _AT_ONCE]))
                .where(col(Record.seen_at) < started, col(Record.absent_since).is_(None))
                .values(absent_since=started)
                .execution_options(synchronize_session=False)
            )
        deletion = None
        if agreed:
            deletion = await _propose(
                rt, session, target, entity, agreed, live=live, started=started, now=now
            )
        await save_mark(
            store, session, target.id, entity,
            full_at=started,
            confirm_at=started if again else started + POLICY.confirm if absent else None,
        )  # fmt: skip
        await _settle_proposals(rt, session, target.id, entity, now=now)
        if entity in target.app.bodies:
            await _forget_bodies(session, target.id, entity, now=now)
    if deletion is not None and deletion.status == "proposed":
        result.held_back = deletion.records
    await apply_agreed(store, target.app, target.id, target.makini_key, now=now)
    async with store.write() as session:
        await lock_feed(store, session, target.id)
        result.counts = await count_due(session, target.id, entity, run_at=run_at)
    return result


async def apply_agreed(
    store: Store, app: AppConfig, connection_id: str, makini_key: str, *, now: datetime
) -> int:
    """Write the tombstones of every deletion agreed on, also one a crash cut short; how many."""
    async with store.read() as session:
        agreed = list(
            await session.scalars(
                select(col(Deletion.id)).where(
                    col(Deletion.connection_id) == connection_id, col(Deletion.status) == "agreed"
                )
            )
        )
    total = 0
    for identifier in agreed:
        while True:
            async with store.write() as session:
                last = await lock_feed(store, session, connection_id)
                gone = (
                    await session.execute(
                        select(col(Record.entity), col(Record.key))
                        .where(
                            col(Record.deletion_id) == identifier, col(Record.deleted_at).is_(None)
                        )
                        .order_by(col(Record.key))
                        .limit(_AT_ONCE)
                    )
                ).all()
                if not gone:
                    await session.execute(
                        update(Deletion)
                        .where(col(Deletion.id) == identifier)
                        .values(status="applied")
                        .execution_options(synchronize_session=False)
                    )
                    break
                entity = gone[0][0]
                keys = [key for _, key in gone]
                await session.execute(
                    update(Record)
                    .where(*_of(connection_id, entity))
                    .where(one_of(store, Record.key, keys))
                    .values(deleted_at=now, seen_at=now)
                    .execution_options(synchronize_session=False)
                )
                rows = _changes(connection_id, entity, keys, "deleted", last=last, now=now)
                await append_changes(session, rows)
                await _forward(store, session, app, makini_key, rows)
                total += len(keys)
    return total


async def restore(
    store: Store, app: AppConfig, deletion: Deletion, makini_key: str, *, now: datetime
) -> int:
    """Take the tombstones of `deletion` back; how many."""
    total = 0
    while True:
        async with store.write() as session:
            last = await lock_feed(store, session, deletion.connection_id)
            keys = list(
                await session.scalars(
                    select(col(Record.key))
                    .where(
                        col(Record.deletion_id) == deletion.id, col(Record.deleted_at).is_not(None)
                    )
                    .order_by(col(Record.key))
                    .limit(_AT_ONCE)
                )
            )
            if not keys:
                return total
            await session.execute(
                update(Record)
                .where(*_of(deletion.connection_id, deletion.entity))
                .where(one_of(store, Record.key, keys))
                .values(deleted_at=None, absent_since=None)
                .execution_options(synchronize_session=False)
            )
            rows = _changes(
                deletion.connection_id, deletion.entity, keys, "inserted", last=last, now=now
            )
            for row in rows:
                row["due"] = None
            await append_changes(session, rows)
            await _forward(store, session, app, makini_key, rows)
            total += len(keys)


async def _missing(
    store: Store, connection_id: str, entity: str, keys: KeySet, started: datetime
) -> tuple[list[str], list[str], int]:
    """Keys not listed for the first time, keys not listed again, and how many records are live."""
    absent: list[str] = []
    agreed: list[str] = []
    live, after = 0, ""
    while True:
        async with store.read() as session:
            rows = (
                await session.execute(
                    select(
                        col(Record.key),
                        col(Record.absent_since),
                        col(Record.deletion_id),
                        col(Record.seen_at),
                    )
                    .where(*_of(connection_id, entity))
                    .where(col(Record.deleted_at).is_(None), col(Record.key) > after)
                    .order_by(col(Record.key))
                    .limit(_SCAN)
                )
            ).all()
        live += len(rows)
        for key, absent_since, deletion_id, seen_at in rows:
            if deletion_id is not None or seen_at >= started or key in keys:
                continue
            if absent_since is None:
                absent.append(key)
            elif absent_since < started:
                agreed.append(key)
        if len(rows) < _SCAN:
            return absent, agreed, live
        after = rows[-1][0]


async def _propose(
    rt: Runtime,
    session: AsyncSession,
    target: Target,
    entity: str,
    keys: Sequence[str],
    *,
    live: int,
    started: datetime,
    now: datetime,
) -> Deletion:
    held = await session.scalar(
        select(Deletion).where(
            col(Deletion.connection_id) == target.id,
            col(Deletion.entity) == entity,
            col(Deletion.status) == "proposed",
        )
    )
    believed = is_believed(len(keys), live, held=held.records if held else 0)
    deletion = held if held is not None and not believed else None
    if deletion is None:
        deletion = Deletion(
            id=new_id(),
            connection_id=target.id,
            entity=entity,
            status="agreed" if believed else "proposed",
            records=0,
            live=live,
            at=now,
        )
        session.add(deletion)
        await session.flush()
    for start in range(0, len(keys), _AT_ONCE):
        await session.execute(
            update(Record)
            .where(*_of(target.id, entity))
            .where(one_of(rt.store, Record.key, keys[start : start + _AT_ONCE]))
            # One that was read meanwhile is not gone.
            .where(col(Record.absent_since) < started, col(Record.seen_at) < started)
            .values(deletion_id=deletion.id)
            .execution_options(synchronize_session=False)
        )
    deletion.records = await _count(session, deletion.id)
    await session.flush()
    if not believed:
        share = f"{deletion.records} of {live}"
        await open_incident(
            rt.store,
            session,
            topic=TOPIC,
            kind="deletions_held",
            scope="connection",
            cause=cause(target.id, entity),
            app=target.app.name,
            title=f"{target.label} · {entity}: {share} records look deleted",
            text=f"Two complete listings lack {share} records of {entity}: too many to delete "
            "without being told. Accept or refuse in the form `deletions`.",
            connections=[target.id],
            detail={"entity": entity, "records": deletion.records, "live": live},
            now=now,
        )
    return deletion


async def _settle_proposals(
    rt: Runtime, session: AsyncSession, connection_id: str, entity: str, *, now: datetime
) -> None:
    """Of what waits for a decision, records that were read again are out; with none left it is
    void, and its incident over."""
    held = list(
        await session.scalars(
            select(Deletion).where(
                col(Deletion.connection_id) == connection_id,
                col(Deletion.entity) == entity,
                col(Deletion.status) == "proposed",
            )
        )
    )
    for deletion in held:
        deletion.records = await _count(session, deletion.id)
        if not deletion.records:
            deletion.status = "void"
            await resolve_incident(
                rt.store,
                session,
                cause(connection_id, entity),
                f"The records of {entity} are back at the source; nothing was deleted",
                now=now,
            )
    await session.flush()


async def _count(session: AsyncSession, deletion_id: str) -> int:
    return (
        await session.scalar(
            select(func.count()).select_from(Record).where(col(Record.deletion_id) == deletion_id)
        )
        or 0
    )


async def _forget_bodies(
    session: AsyncSession, connection_id: str, entity: str, *, now: datetime
) -> None:
    """A tombstone keeps the record's body for as long as it can be undone."""
    await session.execute(
        update(Record)
        .where(*_of(connection_id, entity))
        .where(col(Record.deleted_at) < now - UNDO, col(Record.body).is_not(None))
        .values(body=None)
        .execution_options(synchronize_session=False)
    )


def cause(connection_id: str, entity: str) -> str:
    """The cause of the incident of deletions held back."""
    return f"deletions:{connection_id}:{entity}"


def _of(connection_id: str, entity: str) -> tuple[Any, Any]:
    return col(Record.connection_id) == connection_id, col(Record.entity) == entity


def _changes(
    connection_id: str, entity: str, keys: Sequence[str], op: str, *, last: int, now: datetime
) -> list[dict[str, Any]]:
    return [
        {
            "id": new_id(),
            "connection_id": connection_id,
            "seq": seq,
            "position": None,
            "entity": entity,
            "key": key,
            "op": op,
            "updated_at": None,
            "at": now,
            "source": "deletion",
            "recovered": True,
            "announced_at": now,
            "due": "deleted",
        }
        for seq, key in enumerate(keys, start=last + 1)
    ]


async def _forward(
    store: Store,
    session: AsyncSession,
    app: AppConfig,
    makini_key: str,
    rows: Sequence[dict[str, Any]],
) -> None:
    changes = [
        RecoveredChange(
            id=row["id"],
            connection_id=row["connection_id"],
            makini_key=makini_key,
            entity=row["entity"],
            key=row["key"],
            op=row["op"],
            at=row["at"],
        )
        for row in rows
    ]
    await forward_changes(store, session, app, changes, now=rows[0]["at"])
