"""The index in the database: reading and writing many records in one statement."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    DateTime,
    any_,
    bindparam,
    case,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlalchemy.types import String
from sqlmodel import col

from linekeeper.reconcile.compare import Known
from linekeeper.store import Store
from linekeeper.store.tables import Change, Feed, Record
from linekeeper.store.types import Id, UtcDateTime
from linekeeper.store.upsert import insert_ignore

LATE_DAYS = 7
"""A delivery that comes later than this after the poll that found its change is not counted."""
_WRITTEN = ("updated_at", "deleted_at", "hash", "body", "seen_at", "absent_since", "deletion_id")


Row = tuple[str, datetime | None, str, str | None]
"""A live record as it is written: key, source time, hash, body."""


def one_of(store: Store, column: Any, values: Sequence[str]) -> ColumnElement[bool]:
    """`column IN values` with one variable however many there are."""
    if store.is_sqlite:
        listed = func.json_each(orjson.dumps(list(values)).decode()).table_valued("value")
        return col(column).in_(select(listed.c.value))
    return col(column) == any_(literal(list(values), ARRAY(String)))


async def lock_feed(store: Store, session: AsyncSession, connection_id: str) -> int:
    """The connection's last `change.seq`; nobody else writes its records until we commit."""
    asked = (
        select(col(Feed.last_seq)).where(col(Feed.connection_id) == connection_id).with_for_update()
    )
    found = await session.scalar(asked)
    if found is None:
        row = {"connection_id": connection_id, "last_seq": 0}
        await session.execute(insert_ignore(store, Feed, [row]))
        found = await session.scalar(asked)
    return found or 0


async def known_records(
    store: Store, session: AsyncSession, connection_id: str, entity: str, keys: Sequence[str]
) -> dict[str, tuple[Known, bool]]:
    """What the index holds under `keys`, and whether it is marked as absent or once deleted."""
    rows = await session.execute(
        select(
            col(Record.key),
            col(Record.updated_at),
            col(Record.hash),
            col(Record.seen_at),
            col(Record.deleted_at),
            col(Record.absent_since),
            col(Record.deletion_id),
        ).where(
            col(Record.connection_id) == connection_id,
            col(Record.entity) == entity,
            one_of(store, Record.key, keys),
        )
    )
    return {
        key: (
            Known(time, digest, seen_at, deleted_at is not None),
            absent_since is not None or deletion_id is not None,
        )
        for key, time, digest, seen_at, deleted_at, absent_since, deletion_id in rows
    }


async def write_records(
    store: Store,
    session: AsyncSession,
    connection_id: str,
    entity: str,
    rows: Sequence[Row],
    *,
    seen_at: datetime,
    replacing: bool = True,
) -> None:
    """Write `rows`, all seen at the same time, in one statement.

    What is there under their keys is replaced; without `replacing` it raises `IntegrityError`.
    One statement of whole columns takes a fraction of the time of one execution a row, and on
    SQLite its thread and ours don't take turns at every row.
    """
    if not rows:
        return
    if store.is_sqlite:
        listed = [[key, _written(time), digest, body] for key, time, digest, body in rows]
        columns: dict[str, Any] = {"listed": orjson.dumps(listed).decode()}
    else:
        names = ("key_list", "updated_at_list", "hash_list", "body_list")
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    place = {"connection_id": connection_id, "entity": entity, "seen_at": seen_at}
    await session.execute(_WRITE[store.is_sqlite, replacing], {**place, **columns})


def _written(time: datetime | None) -> str | None:
    """A time as SQLite's column has it (store.types)."""
    return None if time is None else time.isoformat(timespec="microseconds")


_INTO = (
    "INSERT INTO record (connection_id, entity, key, updated_at, deleted_at, hash, body, seen_at, "
    "absent_since, deletion_id) SELECT "
)
_FROM_JSON = (
    ":connection_id, :entity, value ->> 0, value ->> 1, NULL, value ->> 2, value ->> 3, :seen_at, "
    "NULL, NULL FROM json_each(:listed) WHERE true"
)
_FROM_ARRAYS = (
    ":connection_id, :entity, one.key, one.updated_at, NULL, one.hash, one.body, :seen_at, NULL, "
    "NULL FROM unnest(:key_list, :updated_at_list, :hash_list, :body_list) "
    "AS one(key, updated_at, hash, body)"
)
_OR_REPLACE = " ON CONFLICT (connection_id, entity, key) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in _WRITTEN
)
_SINGLE = (
    bindparam("connection_id", type_=Id),
    bindparam("entity", type_=String),
    bindparam("seen_at", type_=UtcDateTime),
)
_LISTS = (
    bindparam("key_list", type_=ARRAY(String)),
    bindparam("updated_at_list", type_=ARRAY(DateTime(timezone=True))),
    bindparam("hash_list", type_=ARRAY(String)),
    bindparam("body_list", type_=ARRAY(String)),
)
_WRITE = {
    (True, replacing): text(_INTO + _FROM_JSON + (_OR_REPLACE if replacing else "")).bindparams(
        *_SINGLE
    )
    for replacing in (True, False)
} | {
    (False, replacing): text(_INTO + _FROM_ARRAYS + (_OR_REPLACE if replacing else "")).bindparams(
        *_SINGLE, *_LISTS
    )
    for replacing in (True, False)
}
"""By whether it is SQLite, and whether it replaces."""


async def clear_marks(
    store: Store, session: AsyncSession, connection_id: str, entity: str, keys: Sequence[str]
) -> None:
    """The source has `keys` after all: they are no candidates for deletion any more."""
    if keys:
        await session.execute(
            update(Record)
            .where(
                col(Record.connection_id) == connection_id,
                col(Record.entity) == entity,
                one_of(store, Record.key, keys),
            )
            .values(absent_since=None, deletion_id=None)
            .execution_options(synchronize_session=False)
        )


async def append_changes(session: AsyncSession, rows: Sequence[dict[str, Any]]) -> None:
    """Add `rows`, numbered on from the connection's last; `lock_feed` comes first."""
    if not rows:
        return
    connection = await session.connection()
    await connection.execute(insert(Change), list(rows))
    await session.execute(
        update(Feed)
        .where(col(Feed.connection_id) == rows[0]["connection_id"])
        .values(last_seq=rows[-1]["seq"])
        .execution_options(synchronize_session=False)
    )


async def mark_announced(
    store: Store,
    session: AsyncSession,
    connection_id: str,
    entity: str,
    keys: Sequence[str],
    *,
    received_at: datetime,
) -> None:
    """A delivery that came at `received_at` named `keys` and brought nothing newer.

    Where the last change of a key was recovered by a poll, this is its webhook, late.
    """
    if not keys:
        return
    last = aliased(Change)
    await session.execute(
        update(Change)
        .where(
            col(Change.connection_id) == connection_id,
            col(Change.entity) == entity,
            one_of(store, Change.key, keys),
            col(Change.recovered),
            col(Change.announced_at).is_(None),
            col(Change.at) > received_at - timedelta(days=LATE_DAYS),
            col(Change.seq)
            == select(func.max(last.seq))
            .where(
                col(last.connection_id) == col(Change.connection_id),
                col(last.entity) == col(Change.entity),
                col(last.key) == col(Change.key),
            )
            .scalar_subquery(),
        )
        .values(
            announced_at=received_at, due=case((col(Change.due) == "missed", "seen"), else_="late")
        )
        .execution_options(synchronize_session=False)
    )
