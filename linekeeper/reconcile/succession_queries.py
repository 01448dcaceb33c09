"""Successions in the database: rows of both connections, and the steps between, in bulk."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from linekeeper.reconcile.matching import MatchRow
from linekeeper.reconcile.queries import records_of
from linekeeper.store import Store, new_id
from linekeeper.store.engine import chunked
from linekeeper.store.lists import count_rows, delete_many, one_of, update_many
from linekeeper.store.tables import Deletion, Record, Succession, SuccessionStep
from linekeeper.store.types import table_of

AT_ONCE = 2_000
"""Steps a transaction takes."""
_SCAN = 10_000

Step = tuple[str, str | None, str | None, str | None]
"""What to do, the old key, the new key, and the group that waits for a person."""
_ROW = (
    col(Record.key),
    col(Record.natural_key),
    col(Record.updated_at),
    col(Record.plain_hash),
    col(Record.hash),
)


async def quiet_keys(
    store: Store, session: AsyncSession, keys: Mapping[tuple[str, str], Sequence[str]]
) -> dict[tuple[str, str], set[str] | None]:
    """Return the keys of which the feed says nothing yet, by place; None: of none of the place.

    Those of a successor that has not been compared with the one before, and those that wait for a
    person to say which they are.
    """
    rows = await session.execute(
        select(col(Succession.connection_id), col(Succession.entity), col(Succession.status)).where(
            col(Succession.connection_id).in_(sorted({partition[0] for partition in keys})),
            (col(Succession.status) != "done") | (col(Succession.ambiguous) > 0),
        )
    )
    quiet: dict[tuple[str, str], set[str] | None] = {}
    for connection_id, entity, status in rows:
        partition = (connection_id, entity)
        if partition not in keys:
            continue
        if status == "pending":
            quiet[partition] = None
            continue
        untouched = await session.scalars(
            select(col(SuccessionStep.new_key)).where(
                *_steps_of(connection_id, entity),
                one_of(store, SuccessionStep.new_key, keys[partition]),
            )
        )
        quiet[partition] = {key for key in untouched if key is not None}
    return quiet


async def live_rows(store: Store, connection_id: str, entity: str) -> list[MatchRow]:
    """Every live record, as far as matching goes; nothing is locked meanwhile."""
    rows_found: list[MatchRow] = []
    after = ""
    while True:
        async with store.read() as session:
            rows = await session.execute(
                select(*_ROW)
                .where(
                    *records_of(connection_id, entity),
                    col(Record.deleted_at).is_(None),
                    col(Record.key) > after,
                )
                .order_by(col(Record.key))
                .limit(_SCAN)
            )
            successions = [MatchRow(*row) for row in rows]
        rows_found += successions
        if len(successions) < _SCAN:
            return rows_found
        after = successions[-1].key


async def rows_of(
    store: Store, session: AsyncSession, connection_id: str, entity: str, keys: Sequence[str]
) -> dict[str, MatchRow]:
    """The live records with these keys."""
    if not keys:
        return {}
    rows = await session.execute(
        select(*_ROW).where(
            *records_of(connection_id, entity),
            one_of(store, Record.key, keys),
            col(Record.deleted_at).is_(None),
        )
    )
    return {row[0]: MatchRow(*row) for row in rows}


async def forget_steps(store: Store, connection_id: str, entity: str) -> None:
    """Steps of a plan that was never completed."""
    async with store.write() as session:
        await session.execute(delete(SuccessionStep).where(*_steps_of(connection_id, entity)))


async def add_steps(
    session: AsyncSession, connection_id: str, entity: str, steps: Sequence[Step]
) -> None:
    """Write `steps`, to be taken in their order."""
    if steps:
        await (await session.connection()).execute(
            insert(table_of(SuccessionStep)),
            [
                {
                    "id": new_id(),
                    "connection_id": connection_id,
                    "entity": entity,
                    "op": op,
                    "old_key": old_key,
                    "new_key": new_key,
                    "group_key": group,
                }
                for op, old_key, new_key, group in steps
            ],
        )


async def unplanned_keys(
    session: AsyncSession,
    connection_id: str,
    entity: str,
    *,
    since: datetime,
    planned: set[str],
) -> list[str]:
    """Keys of the successor's records written `since`, of which the plan knows nothing."""
    rows = await session.scalars(
        select(col(Record.key)).where(
            *records_of(connection_id, entity),
            col(Record.seen_at) >= since,
            col(Record.deleted_at).is_(None),
        )
    )
    return [key for key in rows if key not in planned]


async def next_steps(
    session: AsyncSession, connection_id: str, entity: str
) -> Sequence[SuccessionStep]:
    rows = await session.scalars(
        select(SuccessionStep)
        .where(*_steps_of(connection_id, entity), col(SuccessionStep.op) != "ambiguous")
        .order_by(col(SuccessionStep.id))
        .limit(AT_ONCE)
    )
    return rows.all()


async def drop_steps(session: AsyncSession, ids: Sequence[str]) -> None:
    """These were taken."""
    for chunk in chunked(ids, AT_ONCE):
        await session.execute(delete_many(SuccessionStep).where(col(SuccessionStep.id).in_(chunk)))


async def ambiguous_steps(
    session: AsyncSession, connection_id: str, entity: str
) -> list[SuccessionStep]:
    """The sides of groups that wait for a person."""
    rows = await session.scalars(
        select(SuccessionStep)
        .where(*_steps_of(connection_id, entity), col(SuccessionStep.op) == "ambiguous")
        .order_by(col(SuccessionStep.group_key), col(SuccessionStep.id))
    )
    return list(rows)


async def remove_rows(
    store: Store, session: AsyncSession, connection_id: str, entity: str, keys: Sequence[str]
) -> None:
    if keys:
        await session.execute(
            delete_many(Record).where(
                *records_of(connection_id, entity), one_of(store, Record.key, keys)
            )
        )


async def move_rows(
    store: Store,
    session: AsyncSession,
    entity: str,
    keys: Sequence[str],
    *,
    before: str,
    after: str,
    deletion_id: str | None = None,
) -> None:
    """Records keep their keys under the successor, where it has none under them.

    They belong to `deletion_id`, and are absent only once a listing of the successor lacks them.
    """
    if not keys:
        return
    await session.execute(
        update_many(Record)
        .where(
            *records_of(before, entity),
            one_of(store, Record.key, keys),
            ~_has_same_key(after, entity),
        )
        .values(connection_id=after, deletion_id=deletion_id, absent_since=None)
    )


async def move_tombstones(session: AsyncSession, entity: str, *, before: str, after: str) -> None:
    """What was deleted stays deleted under the successor, where it can be undone; so does what
    waits for a decision."""
    await session.execute(
        update_many(Deletion)
        .where(
            col(Deletion.connection_id) == before,
            col(Deletion.entity) == entity,
            col(Deletion.status).in_(("applied", "proposed")),
        )
        .values(connection_id=after)
    )
    await session.execute(
        update_many(Record)
        .where(
            *records_of(before, entity),
            col(Record.deleted_at).is_not(None),
            ~_has_same_key(after, entity),
        )
        .values(connection_id=after)
    )


async def remove_rest(store: Store, connection_id: str, entity: str) -> None:
    """What is left of the one before is the successor's by now."""
    while True:
        async with store.write() as session:
            keys = (
                await session.scalars(
                    select(col(Record.key))
                    .where(*records_of(connection_id, entity))
                    .order_by(col(Record.key))
                    .limit(AT_ONCE)
                )
            ).all()
            await remove_rows(store, session, connection_id, entity, keys)
        if len(keys) < AT_ONCE:
            return


async def count_up(session: AsyncSession, connection_id: str, entity: str, **counts: int) -> None:
    """Add to the figures of a succession."""
    values: dict[str, Any] = {
        name: getattr(Succession, name) + count for name, count in counts.items() if count
    }
    if values:
        await session.execute(
            update_many(Succession).where(*_succession(connection_id, entity)).values(**values)
        )


async def set_succession(
    session: AsyncSession, connection_id: str, entity: str, **values: Any
) -> None:
    await session.execute(
        update_many(Succession).where(*_succession(connection_id, entity)).values(**values)
    )


async def waiting_count(session: AsyncSession, connection_id: str, entity: str) -> int:
    """How many records of the predecessor wait for a person."""
    return await count_rows(
        session,
        SuccessionStep,
        *_steps_of(connection_id, entity),
        col(SuccessionStep.op) == "ambiguous",
        col(SuccessionStep.old_key).is_not(None),
    )


def _has_same_key(connection_id: str, entity: str) -> ColumnElement[bool]:
    other = aliased(Record)
    return exists(
        select(col(other.key)).where(
            col(other.connection_id) == connection_id,
            col(other.entity) == entity,
            col(other.key) == col(Record.key),
        )
    )


def _steps_of(connection_id: str, entity: str) -> tuple[ColumnElement[bool], ...]:
    return (
        col(SuccessionStep.connection_id) == connection_id,
        col(SuccessionStep.entity) == entity,
    )


def _succession(connection_id: str, entity: str) -> tuple[ColumnElement[bool], ...]:
    return col(Succession.connection_id) == connection_id, col(Succession.entity) == entity


async def held_by(
    session: AsyncSession, connection_id: str, entity: str, status: str
) -> str | None:
    """The deletion that holds what could not be matched, `ambiguous` or `unmatched`."""
    holder: str | None = await session.scalar(
        select(col(Deletion.id)).where(
            col(Deletion.connection_id) == connection_id,
            col(Deletion.entity) == entity,
            col(Deletion.status) == status,
        )
    )
    return holder
