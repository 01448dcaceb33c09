"""Absent records and deletions in the database, many in one statement."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.reconcile.queries import set_of_keys
from linekeeper.store import Store
from linekeeper.store.lists import update_many
from linekeeper.store.tables import Deletion, Record
from linekeeper.store.types import UtcDateTime, table_of

AT_ONCE = 500
"""Records a transaction writes."""
_SCAN = 5_000


@dataclass(frozen=True, slots=True)
class Live:
    """A live record, as far as a listing that lacks it asks."""

    key: str
    absent_since: datetime | None
    deletion_id: str | None
    seen_at: datetime
    updated_at: datetime | None


_HERE = (
    col(Record.connection_id) == bindparam("connection"),
    col(Record.entity) == bindparam("of_entity"),
)
_LIVE = (
    select(
        col(Record.key),
        col(Record.absent_since),
        col(Record.deletion_id),
        col(Record.seen_at),
        col(Record.updated_at),
    )
    .where(*_HERE, col(Record.deleted_at).is_(None), col(Record.key) > bindparam("after"))
    .order_by(col(Record.key))
    .limit(_SCAN)
)


async def live_records(
    store: Store, connection_id: str, entity: str
) -> AsyncIterator[Sequence[Live]]:
    """The live records by key, some thousand at a time; nothing is locked meanwhile."""
    after = ""
    while True:
        async with store.read() as session:
            partition = {"connection": connection_id, "of_entity": entity}
            rows = await session.execute(_LIVE, {**partition, "after": after})
            live = [Live(*row) for row in rows]
        if live:
            yield live
            after = live[-1].key
        if len(live) < _SCAN:
            return


async def mark_absent(
    store: Store,
    session: AsyncSession,
    connection_id: str,
    entity: str,
    keys: Sequence[str],
    *,
    started: datetime,
) -> None:
    """A complete listing begun at `started` lacks `keys`, for the first time."""
    await set_of_keys(
        store,
        session,
        connection_id,
        entity,
        keys,
        col(Record.seen_at) < started,
        col(Record.absent_since).is_(None),
        absent_since=started,
    )


async def forget_absent(
    store: Store, session: AsyncSession, connection_id: str, entity: str, keys: Sequence[str]
) -> None:
    """That listings lacked `keys` has turned out to mean nothing."""
    is_free = col(Record.deletion_id).is_(None)
    await set_of_keys(store, session, connection_id, entity, keys, is_free, absent_since=None)


async def assign(
    store: Store,
    session: AsyncSession,
    deletion: Deletion,
    keys: Sequence[str],
    *,
    started: datetime,
) -> None:
    """`keys` belong to `deletion` from now on; one that was read meanwhile is not gone."""
    await set_of_keys(
        store,
        session,
        deletion.connection_id,
        deletion.entity,
        keys,
        col(Record.absent_since) < started,
        col(Record.seen_at) < started,
        deletion_id=deletion.id,
    )
    deletion.records = await count_of(session, deletion.id)
    await session.flush()


_PROPOSED = select(Deletion).where(
    col(Deletion.connection_id) == bindparam("connection"),
    col(Deletion.entity) == bindparam("of_entity"),
    col(Deletion.status) == "proposed",
)


async def proposed(session: AsyncSession, connection_id: str, entity: str) -> Deletion | None:
    """The deletion that waits for a decision."""
    partition = {"connection": connection_id, "of_entity": entity}
    deletion: Deletion | None = await session.scalar(_PROPOSED, partition)
    return deletion


async def agreed_deletions(store: Store, connection_id: str) -> list[str]:
    """The ids of those agreed on whose tombstones are not all written."""
    async with store.read() as session:
        return await agreed_of(session, connection_id)


async def agreed_of(session: AsyncSession, connection_id: str) -> list[str]:
    """The same, within a transaction."""
    return list(await session.scalars(_AGREED, {"whose": connection_id}))


_AGREED = select(col(Deletion.id)).where(
    col(Deletion.connection_id) == bindparam("whose"), col(Deletion.status) == "agreed"
)


async def count_of(session: AsyncSession, deletion_id: str) -> int:
    """How many records belong to a deletion."""
    counted = select(func.count()).select_from(Record)
    return await session.scalar(counted.where(col(Record.deletion_id) == deletion_id)) or 0


async def some_of(
    session: AsyncSession, deletion_id: str, *, deleted: bool
) -> list[tuple[str, str]]:
    """Entity and key of some of a deletion's records, those with or without their tombstone.

    Records that went over to a successor without it are not its own any more.
    """
    has_tombstone = col(Record.deleted_at).is_not(None)
    rows = await session.execute(
        select(col(Record.entity), col(Record.key))
        .join(Deletion, col(Deletion.id) == col(Record.deletion_id))
        .where(
            col(Deletion.id) == deletion_id,
            col(Record.connection_id) == col(Deletion.connection_id),
            has_tombstone if deleted else ~has_tombstone,
        )
        .order_by(col(Record.key))
        .limit(AT_ONCE)
    )
    return [(entity, key) for entity, key in rows]


async def settle(session: AsyncSession, deletion_id: str, status: str) -> None:
    """Set the status of a deletion."""
    await session.execute(
        update_many(Deletion).where(col(Deletion.id) == deletion_id).values(status=status)
    )


async def put_tombstones(
    store: Store,
    session: AsyncSession,
    connection_id: str,
    entity: str,
    keys: Sequence[str],
    *,
    now: datetime,
) -> None:
    """`keys` are deleted, as of `now`."""
    await set_of_keys(store, session, connection_id, entity, keys, deleted_at=now, seen_at=now)


async def take_tombstones(
    store: Store, session: AsyncSession, connection_id: str, entity: str, keys: Sequence[str]
) -> None:
    """`keys` are live again; what they belonged to stays noted."""
    live: dict[str, Any] = {"deleted_at": None, "absent_since": None}
    await set_of_keys(store, session, connection_id, entity, keys, **live)


_FORGET_BODIES = (
    update(table_of(Record))
    .where(
        *_HERE,
        col(Record.deleted_at) < bindparam("before", type_=UtcDateTime),
        col(Record.body).is_not(None),
    )
    .values(body=None)
)


async def forget_bodies(
    session: AsyncSession, connection_id: str, entity: str, *, before: datetime
) -> None:
    """Bodies of what was deleted before `before` go; a tombstone needs none after that."""
    partition = {"connection": connection_id, "of_entity": entity}
    await session.execute(_FORGET_BODIES, {**partition, "before": before})
