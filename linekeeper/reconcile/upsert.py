"""Writing what was read into the index, and what that changed into the feed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.reconcile.compare import Comparison, KnownRecord, ReadRecord, Source, better, decide
from linekeeper.reconcile.date_forms import differs_in_dates_alone
from linekeeper.reconcile.deletion_queries import put_tombstones
from linekeeper.reconcile.identity import (
    NOBODY,
    RecordIdentity,
    content,
    content_hash,
    identity,
    is_deleted,
    record_key,
    source_time,
)
from linekeeper.reconcile.marks import ask_again
from linekeeper.reconcile.partitions import Partition
from linekeeper.reconcile.queries import (
    Row,
    append_changes,
    clear_marks,
    known_records,
    lock_feeds,
    mark_announced,
    write_records,
)
from linekeeper.reconcile.succession_queries import quiet_keys
from linekeeper.store import Store, new_id


class AddedChange(NamedTuple):
    """A change that was added to a connection's feed."""

    connection_id: str
    entity: str
    key: str
    op: str
    seq: int


@dataclass(slots=True)
class Read(ReadRecord):
    """One record as it was read: what `decide` asks, and its JSON."""

    text: bytes = b""
    identity: RecordIdentity = NOBODY


@dataclass(slots=True)
class ChangeSet:
    """What became of a batch. Records without a key are left out."""

    new: list[dict[str, Any]] = field(default_factory=list)
    """The changes, as rows of `change`."""
    before: dict[str, Any] = field(default_factory=dict)
    """What the index held under the key of each change (`KnownRecord`, or None)."""
    latest: dict[str, ReadRecord] = field(default_factory=dict)
    """What was read under the key of each change."""
    rows: list[Row] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    """The keys of `rows` that the source lists as deleted."""
    same: list[str] = field(default_factory=list)
    marked: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Arrived:
    """Records of one entity of a connection, as Makini sends them."""

    connection_id: str
    entity: str
    records: Sequence[Mapping[str, Any]]
    bodies: bool
    """Whether their JSON is kept."""
    fields: Sequence[str]
    """Those their natural key is made from."""
    asked_at: datetime
    """When they were asked for."""
    received_at: datetime
    """When the first delivery came that named some of them."""
    named_at: Mapping[str, datetime] = field(default_factory=dict)
    """When the first delivery came that named a key, by key."""
    shared: Collection[str] = ()
    """The keys that the deliveries may have named for another connection."""

    def came_at(self, key: str) -> datetime:
        """When the first delivery came that named `key`."""
        return self.named_at.get(key, self.received_at)


async def upsert_records(
    store: Store,
    session: AsyncSession,
    arrived: Sequence[Arrived],
    *,
    source: Source,
    now: datetime,
) -> list[AddedChange]:
    """Bring what `arrived` into the index; returns what changed.

    Each connection and entity comes once in `arrived`. Runs in the caller's transaction, which
    from here on is the only one to write these connections' records. What the index holds newer is
    left alone; an `event`'s data is applied only if its source time is newer. A record without a
    key is left out.
    """
    ends = await lock_feeds(store, session, [arrival.connection_id for arrival in arrived])
    current = source != "event"
    read = {
        (arrival.connection_id, arrival.entity): read_records(
            arrival.records, asked_at=arrival.asked_at, fields=arrival.fields, current=current
        )
        for arrival in arrived
    }
    known = await known_records(
        store, session, {partition: list(readings) for partition, readings in read.items()}
    )
    quiet = await quiet_keys(
        store, session, {partition: list(records) for partition, records in read.items()}
    )
    change_sets: dict[Partition, ChangeSet] = {}
    for arrival in arrived:
        partition = (arrival.connection_id, arrival.entity)
        change_sets[partition] = change_set = diff(
            *partition, read[partition], known[partition], now=now, bodies=arrival.bodies
        )
        if partition in quiet:
            keys = quiet[partition]
            spoken = [] if keys is None else [c for c in change_set.new if c["key"] not in keys]
            change_set.new = spoken
        for change in change_set.new:
            ends[arrival.connection_id] += 1
            change["seq"] = ends[arrival.connection_id]
            if source != "poll":
                came_at = arrival.came_at(change["key"])
                change.update(source="webhook", announced_at=came_at, due="seen")
    await write(store, session, change_sets, at=now)
    if source != "poll":
        by_partition = {(arrival.connection_id, arrival.entity): arrival for arrival in arrived}
        changed = {
            (entity, change["key"])
            for (_, entity), change_set in change_sets.items()
            for change in change_set.new
        }
        same = {
            (connection_id, entity): {
                key: by_partition[connection_id, entity].came_at(key)
                for key in change_set.same
                # a delivery about the record of another connection is not its late one
                if key not in by_partition[connection_id, entity].shared
                or (entity, key) not in changed
            }
            for (connection_id, entity), change_set in change_sets.items()
        }
        await mark_announced(store, session, same)
        there = [partition for partition, records in read.items() if records]
        if there:
            await ask_again(session, there, now=now)
    return [
        AddedChange(*partition, change["key"], change["op"], change["seq"])
        for partition, change_set in change_sets.items()
        for change in change_set.new
    ]


def read_records(
    records: Sequence[Mapping[str, Any]],
    *,
    asked_at: datetime,
    fields: Sequence[str],
    current: bool = True,
) -> dict[str, Read]:
    """The records by key, the newest where a key comes twice."""
    read: dict[str, Read] = {}
    for record in records:
        key = record_key(record)
        if key is None:
            continue
        text = content(record)
        known_by = identity(record, text, fields)
        is_gone = is_deleted(record, now=asked_at)
        new = Read(
            source_time(record), content_hash(text), asked_at, current, is_gone, text, known_by
        )
        other = read.setdefault(key, new)
        if other is not new and better(other, new) is new:
            read[key] = new
    return read


def record_row(key: str, read: Read, *, bodies: bool) -> Row:
    """A live record, as `write_records` takes it."""
    return key, read.time, read.hash, read.text.decode() if bodies else None, *read.identity


def diff(
    connection_id: str,
    entity: str,
    read: Mapping[str, Read],
    known: Mapping[str, Any],
    *,
    now: datetime,
    bodies: bool,
) -> ChangeSet:
    """Decide about each record. `known` is what `known_records` gave. Nothing is written here."""
    result = ChangeSet()
    for key, reading in read.items():
        held, marked = known.get(key, (None, False))
        decision = decide(held, reading, now=now)
        is_same = decision.verdict is Comparison.same
        if decision.verdict is Comparison.updated and held is not None:
            is_same = differs_in_dates_alone(held, reading, reading.text)
        if is_same:
            result.same.append(key)
            if reading.current and not _is_recognisable(held, reading):
                result.rows.append(record_row(key, reading, bodies=bodies))
            elif marked and reading.current:
                result.marked.append(key)
            continue
        if decision.verdict is Comparison.older:
            continue
        result.rows.append(record_row(key, reading, bodies=bodies))
        due = "mismatched" if decision.mismatched else None
        if decision.verdict is Comparison.deleted:
            due = "deleted"
            result.deleted.append(key)
        result.before[key] = held
        result.latest[key] = reading
        result.new.append(
            {
                "id": new_id(),
                "connection_id": connection_id,
                "seq": 0,
                "position": None,
                "entity": entity,
                "key": key,
                "op": decision.verdict.value,
                "updated_at": reading.time,
                "at": now,
                "source": "poll",
                "recovered": False,
                "announced_at": None,
                "old_key": None,
                "due": due,
            }
        )
    return result


def _is_recognisable(held: KnownRecord | None, read: Read) -> bool:
    """Whether the index knows of a record what it is recognised by under another key."""
    known_by = read.identity
    return held is None or (held.natural_key, held.plain_hash is None) == (
        known_by.natural_key,
        known_by.plain_hash is None,
    )


async def write(
    store: Store, session: AsyncSession, change_sets: Mapping[Partition, ChangeSet], *, at: datetime
) -> None:
    """Write what was decided `at` that time: the index, then the feed."""
    rows = {
        partition: change_set.rows
        for partition, change_set in change_sets.items()
        if change_set.rows
    }
    await write_records(store, session, rows, seen_at=at)
    for partition, change_set in change_sets.items():
        if change_set.deleted:
            await put_tombstones(store, session, *partition, change_set.deleted, now=at)
        await clear_marks(store, session, *partition, change_set.marked)
    await append_changes(
        session, [change for change_set in change_sets.values() for change in change_set.new]
    )
