"""The index in the database: reading and writing many records in one statement."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Executable,
    bindparam,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import String
from sqlmodel import col

from linekeeper.reconcile import partitions
from linekeeper.reconcile.compare import KnownRecord
from linekeeper.reconcile.partitions import ANNOUNCED, KEYS, RECORDS, Partition
from linekeeper.store import Store
from linekeeper.store.bodies import seal_body
from linekeeper.store.engine import chunked, insert_ignore
from linekeeper.store.lists import one_of, update_many
from linekeeper.store.tables import Change, Feed, Record
from linekeeper.store.types import Id, UtcDateTime, table_of

LATE_DAYS = 7
"""A delivery that comes later than this after the poll that found its change is not counted."""

Row = tuple[str, datetime | None, str, str | None, str | None, str | None, str | None]
"""A live record as it is written: key, source time, hash, body; number, natural key and plain hash
(reconcile.identity)."""


async def lock_feed(store: Store, session: AsyncSession, connection_id: str) -> int:
    """The connection's last `change.seq`; nobody else writes its records until we commit."""
    return (await lock_feeds(store, session, [connection_id]))[connection_id]


_FEED = table_of(Feed)
_FEEDS = (
    select(_FEED.c.connection_id, _FEED.c.last_seq)
    .where(_FEED.c.connection_id.in_(bindparam("ids", expanding=True)))
    .order_by(_FEED.c.connection_id)
    .with_for_update()
)


async def lock_feeds(
    store: Store, session: AsyncSession, connection_ids: Sequence[str]
) -> dict[str, int]:
    """The last `change.seq` of each; nobody else writes their records until we commit.

    Locked in the order of their ids, so that two writers never wait in a circle.
    """
    ids = sorted(set(connection_ids))
    feeds = {row[0]: row[1] for row in await session.execute(_FEEDS, {"ids": ids})}
    if len(feeds) == len(ids):
        return feeds
    rows = [
        {"connection_id": identifier, "last_seq": 0}
        for identifier in ids
        if identifier not in feeds
    ]
    await insert_ignore(store, session, Feed, rows)
    return {row[0]: row[1] for row in await session.execute(_FEEDS, {"ids": ids})}


async def known_records(
    store: Store, session: AsyncSession, keys: Mapping[Partition, Sequence[str]]
) -> dict[Partition, dict[str, tuple[KnownRecord, bool]]]:
    """What the index holds under `keys`, and whether it is marked as absent or once deleted."""
    listed = {
        partition: [(key,) for key in keys_of_partition]
        for partition, keys_of_partition in keys.items()
    }
    rows = await session.execute(_KNOWN[store.is_sqlite], partitions.values(store, KEYS, listed))
    by_partition: dict[Partition, dict[str, tuple[KnownRecord, bool]]] = {
        partition: {} for partition in keys
    }
    for connection_id, entity, key, time, digest, seen_at, deleted_at, *same, marked in rows:
        known = KnownRecord(time, digest, seen_at, deleted_at is not None, *same)
        by_partition[connection_id, entity][key] = (known, bool(marked))
    return by_partition


def _known(*, is_sqlite: bool) -> Executable:
    return (
        text(
            "SELECT record.connection_id, record.entity, record.key, record.updated_at, "  # noqa: S608 - our own names
            "record.hash, record.seen_at, record.deleted_at, record.natural_key, "
            "record.plain_hash, record.absent_since IS NOT NULL "
            "OR record.deletion_id IS NOT NULL AS marked "
            f"FROM {partitions.table(KEYS, is_sqlite=is_sqlite)} CROSS JOIN record "
            "WHERE record.connection_id = one.connection_id AND record.entity = one.entity "
            "AND record.key = one.key"
        )
        .bindparams(*partitions.parameters(KEYS, is_sqlite=is_sqlite))
        .columns(
            connection_id=Id,
            entity=String,
            key=String,
            updated_at=UtcDateTime,
            hash=String,
            seen_at=UtcDateTime,
            deleted_at=UtcDateTime,
            natural_key=String,
            plain_hash=String,
            marked=Boolean,
        )
    )


_KNOWN = {is_sqlite: _known(is_sqlite=is_sqlite) for is_sqlite in (True, False)}


async def write_records(
    store: Store,
    session: AsyncSession,
    rows: Mapping[Partition, Sequence[Row]],
    *,
    seen_at: datetime,
    replacing: bool = True,
) -> None:
    """Write `rows`, all seen at the same time, in one statement.

    What is there under their keys is replaced; without `replacing` it raises `IntegrityError`.
    """
    if not any(rows.values()):
        return
    values = partitions.values(store, RECORDS, _sealed(store, rows))
    await session.execute(_WRITE[store.is_sqlite, replacing], {**values, "seen_at": seen_at})


def _sealed(
    store: Store, rows: Mapping[Partition, Sequence[Row]]
) -> Mapping[Partition, Sequence[Row]]:
    """The rows, with their contents encrypted where that is wanted; most have none."""
    if not store.encrypts_bodies:
        return rows
    seal = store.cipher
    return {
        partition: [
            (key, time, hashed, seal_body(seal, body), number, natural_key, plain_hash)
            for key, time, hashed, body, number, natural_key, plain_hash in of_partition
        ]
        if any(row[3] is not None for row in of_partition)
        else of_partition
        for partition, of_partition in rows.items()
    }


_REPLACED = (
    "updated_at", "deleted_at", "hash", "body", "number", "natural_key", "plain_hash", "seen_at",
    "absent_since", "deletion_id",
)  # fmt: skip


def _write(*, is_sqlite: bool, replacing: bool) -> Executable:
    statement = (
        "INSERT INTO record (connection_id, entity, key, updated_at, hash, body, number, "  # noqa: S608 - our own names
        "natural_key, plain_hash, seen_at) "
        "SELECT one.connection_id, one.entity, one.key, one.updated_at, one.hash, one.body, "
        "one.number, one.natural_key, one.plain_hash, "
        f":seen_at FROM {partitions.table(RECORDS, is_sqlite=is_sqlite)} WHERE true"
    )
    if replacing:
        statement += " ON CONFLICT (connection_id, entity, key) DO UPDATE SET "
        statement += ", ".join(f"{name} = excluded.{name}" for name in _REPLACED)
    return text(statement).bindparams(
        bindparam("seen_at", type_=UtcDateTime),
        *partitions.parameters(RECORDS, is_sqlite=is_sqlite),
    )


_WRITE = {
    (is_sqlite, replacing): _write(is_sqlite=is_sqlite, replacing=replacing)
    for is_sqlite in (True, False)
    for replacing in (True, False)
}


_AT_ONCE = 5_000


def records_of(connection_id: str, entity: str) -> tuple[ColumnElement[bool], ...]:
    """Those of one entity of one connection, as conditions of a statement."""
    return col(Record.connection_id) == connection_id, col(Record.entity) == entity


async def set_of_keys(
    store: Store,
    session: AsyncSession,
    connection_id: str,
    entity: str,
    keys: Sequence[str],
    *conditions: ColumnElement[bool],
    **values: Any,
) -> None:
    """Write `values` into those of the records with `keys` that meet the `conditions`."""
    for batch in chunked(keys, _AT_ONCE):
        await session.execute(
            update_many(Record)
            .where(
                *records_of(connection_id, entity), one_of(store, Record.key, batch), *conditions
            )
            .values(**values)
        )


async def clear_marks(
    store: Store, session: AsyncSession, connection_id: str, entity: str, keys: Sequence[str]
) -> None:
    """The source has `keys` after all: they are no candidates for deletion any more."""
    unmarked: dict[str, Any] = {"absent_since": None, "deletion_id": None}
    await set_of_keys(store, session, connection_id, entity, keys, **unmarked)


_APPEND = insert(table_of(Change))
_NUMBERED = (
    update(_FEED)
    .where(_FEED.c.connection_id == bindparam("connection"))
    .values(last_seq=bindparam("end"))
)


async def append_changes(session: AsyncSession, rows: Sequence[dict[str, Any]]) -> None:
    """Add `rows`, numbered on from each connection's last; `lock_feeds` comes first."""
    if not rows:
        return
    await session.execute(_APPEND, list(rows))
    ends: dict[str, int] = {}
    for row in rows:
        ends[row["connection_id"]] = max(row["seq"], ends.get(row["connection_id"], 0))
    last = [{"connection": identifier, "end": end} for identifier, end in ends.items()]
    await session.execute(_NUMBERED, last)


async def mark_announced(
    store: Store,
    session: AsyncSession,
    came_at: Mapping[Partition, Mapping[str, datetime]],
) -> None:
    """Deliveries named these keys, came when it says there, and brought nothing newer.

    Where the last change of a key was recovered by a poll, this is its webhook, late.
    """
    late = timedelta(days=LATE_DAYS)
    listed = {
        partition: [(key, came, came - late) for key, came in times.items()]
        for partition, times in came_at.items()
        if times
    }
    if listed:
        values = partitions.values(store, ANNOUNCED, listed)
        await session.execute(_ANNOUNCE[store.is_sqlite], values)


def _announce(*, is_sqlite: bool) -> Executable:
    return text(
        "UPDATE change SET announced_at = one.received_at, "  # noqa: S608 - our own names
        "due = CASE WHEN due = 'missed' THEN 'seen' ELSE 'late' END "
        f"FROM {partitions.table(ANNOUNCED, is_sqlite=is_sqlite)} "
        "WHERE change.connection_id = one.connection_id AND change.entity = one.entity "
        "AND change.key = one.key AND change.recovered AND change.announced_at IS NULL "
        "AND change.at > one.since AND change.seq = (SELECT max(last.seq) FROM change AS last "
        "WHERE last.connection_id = one.connection_id AND last.entity = one.entity "
        "AND last.key = one.key)"
    ).bindparams(*partitions.parameters(ANNOUNCED, is_sqlite=is_sqlite))


_ANNOUNCE = {is_sqlite: _announce(is_sqlite=is_sqlite) for is_sqlite in (True, False)}
