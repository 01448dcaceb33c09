"""Writing what was read into the index, and what that changed into the feed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.reconcile.compare import Found, Source, Verdict, better, decide
from linekeeper.reconcile.fields import content, content_hash, record_key, source_time
from linekeeper.reconcile.queries import (
    Row,
    append_changes,
    clear_marks,
    known_records,
    lock_feed,
    mark_announced,
    write_records,
)
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Change


@dataclass(slots=True)
class Read(Found):
    """One record as it was read: what `decide` asks, and its JSON."""

    text: bytes = b""


@dataclass(slots=True)
class Reckoning:
    """What became of a batch. Records without a key are left out."""

    at: datetime
    """When it was decided."""
    new: list[dict[str, Any]] = field(default_factory=list)
    """The changes, as rows of `change`."""
    before: dict[str, Any] = field(default_factory=dict)
    """What the index held under the key of each change (`Known`, or None)."""
    found: dict[str, Found] = field(default_factory=dict)
    """What was read under the key of each change."""
    rows: list[Row] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    marked: list[str] = field(default_factory=list)


async def upsert_records(
    store: Store,
    session: AsyncSession,
    connection_id: str,
    entity: str,
    records: Sequence[Mapping[str, Any]],
    *,
    source: Source,
    now: datetime,
    bodies: bool,
    asked_at: datetime | None = None,
    received_at: datetime | None = None,
) -> list[Change]:
    """Bring `records` of `entity`, as Makini sends them, into the index; returns what changed.

    Runs in the caller's transaction, which from here on is the only one to write this
    connection's records (on PostgreSQL: lock connections in the order of their ids where there
    are several). What the index holds newer is left alone; an `event`'s data is applied only if
    its source time is newer. `asked_at` is when they were asked for, `received_at` when the
    delivery came that named them; both default to `now`. `bodies` keeps their JSON. A record
    without a key is left out.
    """
    last = await lock_feed(store, session, connection_id)
    asked_at, received_at = asked_at or now, received_at or now
    read = read_records(records, asked_at=asked_at, current=source != "event")
    known = await known_records(store, session, connection_id, entity, list(read))
    reckoning = reckon(connection_id, entity, read, known, now=now, bodies=bodies)
    for seq, change in enumerate(reckoning.new, start=last + 1):
        change["seq"] = seq
        if source != "poll":
            change.update(source="webhook", announced_at=received_at, due="seen")
    await write(store, session, connection_id, entity, reckoning)
    if source != "poll":
        await mark_announced(
            store, session, connection_id, entity, reckoning.same, received_at=received_at
        )
    return [Change(**change) for change in reckoning.new]


def read_records(
    records: Sequence[Mapping[str, Any]], *, asked_at: datetime, current: bool = True
) -> dict[str, Read]:
    """The records by key, the newest where a key comes twice."""
    read: dict[str, Read] = {}
    for record in records:
        key = record_key(record)
        if key is None:
            continue
        text = content(record)
        new = Read(source_time(record), content_hash(text), asked_at, current, text)
        other = read.setdefault(key, new)
        if other is not new and better(other, new) is new:
            read[key] = new
    return read


def record_row(key: str, one: Read, *, bodies: bool) -> Row:
    """A live record, as `write_records` takes it."""
    return key, one.time, one.hash, one.text.decode() if bodies else None


def reckon(
    connection_id: str,
    entity: str,
    read: Mapping[str, Read],
    known: Mapping[str, Any],
    *,
    now: datetime,
    bodies: bool,
) -> Reckoning:
    """Decide about each record. `known` is what `known_records` gave. Nothing is written here."""
    result = Reckoning(now)
    for key, one in read.items():
        held, marked = known.get(key, (None, False))
        decision = decide(held, one)
        if decision.verdict is Verdict.same:
            result.same.append(key)
            if marked and one.current:
                result.marked.append(key)
            continue
        if decision.verdict is Verdict.older:
            continue
        result.rows.append(record_row(key, one, bodies=bodies))
        result.before[key] = held
        result.found[key] = one
        result.new.append(
            {
                "id": new_id(),
                "connection_id": connection_id,
                "seq": 0,
                "position": None,
                "entity": entity,
                "key": key,
                "op": decision.verdict.value,
                "updated_at": one.time,
                "at": now,
                "source": "poll",
                "recovered": False,
                "announced_at": None,
                "due": "mismatched" if decision.mismatched else None,
            }
        )
    return result


async def write(
    store: Store, session: AsyncSession, connection_id: str, entity: str, reckoning: Reckoning
) -> None:
    """Write what was decided: the index, then the feed."""
    place = (connection_id, entity)
    await write_records(store, session, *place, reckoning.rows, seen_at=reckoning.at)
    await clear_marks(store, session, connection_id, entity, reckoning.marked)
    await append_changes(session, reckoning.new)
