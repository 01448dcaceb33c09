"""The records of each system: made from the seed when asked for, only changes are kept.

A record is an index into its collection. Key, time and body follow from it, so a million of
them cost nothing until somebody changes one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from zlib import crc32

from .bodies import BODIES
from .fleet import ANCHOR, Connection

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEYS = 10**12
STRIDE = 387_420_489_007
_UNSTRIDE = pow(STRIDE, -1, _KEYS)
_ANCHOR_US = int(ANCHOR.timestamp()) * 1_000_000
_YEAR_US = 300 * 86_400 * 1_000_000

_EAM_SHARES = {
    "eam/work-orders": 50,
    "eam/assets": 40,
    "eam/locations": 8,
    "eam/sites": 2,
}
_ERP_SHARES = {
    "eam/work-orders": 35,
    "eam/assets": 25,
    "erp/purchase-orders": 20,
    "eam/materials": 6,
    "wms/inventories": 5,
    "eam/locations": 4,
    "eam/vendors": 3,
    "eam/sites": 2,
}


def iso(microseconds: int) -> str:
    """A moment as Makini writes it: ISO-8601, UTC, microseconds."""
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_moment(text: str) -> int:
    """Microseconds since 1970 for an ISO-8601 text; without offset it is UTC.

    Raises:
        ValueError: not a moment.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def sizes(connection: Connection, records: int) -> dict[str, int]:
    """How many records of each entity the system starts with; they add up to `records`."""
    shares = _ERP_SHARES if connection.provider.erp else _EAM_SHARES
    sizes_by_entity: dict[str, int] = {}
    taken = 0
    share_so_far = 0
    for entity, share in shares.items():
        share_so_far += share
        upto = records * share_so_far // 100
        sizes_by_entity[entity] = upto - taken
        taken = upto
    return sizes_by_entity


@dataclass(slots=True)
class Change:
    """What became of a record since the seed made it."""

    at: int
    revision: int
    deleted: bool = False
    fields: dict[str, Any] | None = None


@dataclass(slots=True)
class Query:
    """What a listing asks for: `since` in microseconds, tests over bodies, one sort."""

    since: int | None = None
    tests: list[Callable[[dict[str, Any]], bool]] = field(default_factory=list)
    match_any: bool = False
    sort: str | None = None
    descending: bool = False

    def admits(self, body: dict[str, Any]) -> bool:
        verdicts = (test(body) for test in self.tests)
        return any(verdicts) if self.match_any else all(verdicts)


class Collection:
    """All records of one entity of one connection."""

    __slots__ = (
        "_live",
        "_offset",
        "_own_keys",
        "_prefix",
        "base",
        "changes",
        "count",
        "dated",
        "entity",
        "seed",
        "siblings",
    )

    def __init__(
        self, siblings: dict[str, Collection], connection: Connection, entity: str, base: int
    ) -> None:
        self.siblings = siblings
        self.entity = entity
        self.base = self.count = base
        self.dated = entity not in connection.provider.undated
        self.seed = crc32(f"{connection.source_key or connection.key}:{entity}".encode())
        self._offset = (self.seed * 97 + connection.key_shift) % _KEYS
        self._prefix = connection.key_prefix % 100
        self._own_keys: dict[str, int] = {}
        self.changes: dict[int, Change] = {}
        self._live: Sequence[int] | None = range(base)

    def key(self, index: int) -> str:
        """An opaque string of digits with leading zeros."""
        change = self.changes.get(index)
        if change is not None and change.fields and "key" in change.fields:
            return str(change.fields["key"])
        return f"{self._prefix:02d}{(index * STRIDE + self._offset) % _KEYS:012d}"

    def index(self, key: str, *, with_deleted: bool = False) -> int | None:
        """The record with exactly this key, if it is there."""
        index = self._own_keys.get(key)
        if index is None:
            if len(key) != 14 or not (key.isascii() and key.isdigit()):
                return None
            index = (int(key) - self._offset) * _UNSTRIDE % _KEYS
            if index >= self.count or self.key(index) != key:
                return None
        return index if with_deleted or not self.is_deleted(index) else None

    def is_deleted(self, index: int) -> bool:
        change = self.changes.get(index)
        return change is not None and change.deleted

    def changed_at(self, index: int) -> int:
        """Microseconds since 1970 at which the record last changed."""
        change = self.changes.get(index)
        if change is not None:
            return change.at
        return _ANCHOR_US + index * _YEAR_US // max(self.base, 1)

    def shown_time(self, index: int) -> str | None:
        """`updatedAt` as a listing shows it."""
        change = self.changes.get(index)
        if change is not None and change.fields and "updatedAt" in change.fields:
            return cast("str | None", change.fields["updatedAt"])
        return iso(self.changed_at(index)) if self.dated else None

    def body(self, index: int) -> dict[str, Any]:
        """The record as the Data API shows it."""
        change = self.changes.get(index)
        created = _ANCHOR_US + min(index, self.base) * _YEAR_US // max(self.base, 1)
        body = BODIES[self.entity](self, index, change.revision if change else 0)
        if self.dated:
            body["createdAt"] = iso(created)
            body["updatedAt"] = iso(self.changed_at(index))
            body["deletedAt"] = iso(self.changed_at(index)) if self.is_deleted(index) else None
        if change is not None and change.fields:
            body.update(change.fields)
        return body

    def live(self) -> Sequence[int]:
        """Indexes of every record that exists, oldest first."""
        if self._live is None:
            self._live = [index for index in range(self.count) if not self.is_deleted(index)]
        return self._live

    def select(self, query: Query, *, with_deleted: bool = False) -> Sequence[int]:
        """Indexes of the records that `query` asks for, in its order; the deleted ones if asked."""
        indices: Sequence[int] = range(self.count) if with_deleted else self.live()
        if query.since is not None:
            indices = self._since(query.since, with_deleted=with_deleted)
        if query.tests:
            indices = [index for index in indices if query.admits(self.body(index))]
        if query.sort == "updatedAt":
            indices = sorted(indices, key=self.changed_at, reverse=query.descending)
        elif query.sort is not None:
            name = query.sort
            indices = sorted(
                indices,
                key=lambda index: str(self.body(index).get(name) or ""),
                reverse=query.descending,
            )
        return indices

    def put(self, change: Change, index: int | None = None) -> int:
        """Record a change of `index`, or a new record; returns the index."""
        if index is None:
            index = self.count
            self.count += 1
            if isinstance(self._live, list):
                self._live.append(index)
            elif self._live is not None:
                self._live = range(self.count)
        known = self.changes.pop(index, None)
        if known is not None and known.fields:
            stamps = ("updatedAt", "deletedAt")
            kept = {name: v for name, v in known.fields.items() if name not in stamps}
            change.fields = {**kept, **(change.fields or {})}
        self.changes[index] = change
        if change.fields and "key" in change.fields:
            self._own_keys[str(change.fields["key"])] = index
        if change.deleted or (known is not None and known.deleted):
            self._live = None
        return index

    def bring_back(self, changes: dict[int, Change]) -> None:
        """Take over all changes of a former run, in the order in which they were made."""
        self.changes = dict(changes)
        self.count = max([self.count, *(index + 1 for index in changes)])
        self._live = None
        for index, change in changes.items():
            if change.fields and "key" in change.fields:
                self._own_keys[str(change.fields["key"])] = index

    def sibling(self, entity: str, index: int) -> str | None:
        """The key of some record of another entity of the same system."""
        other = self.siblings.get(entity)
        if other is None or not other.base:
            return None
        return other.key(index % other.base)

    def _since(self, since: int, *, with_deleted: bool) -> list[int]:
        step = _YEAR_US / max(self.base, 1)
        first = max(0, int((since - _ANCHOR_US) / step) - 1) if self.base else 0
        untouched = (
            index
            for index in range(first, self.base)
            if index not in self.changes and self.changed_at(index) >= since
        )
        changed = (
            index
            for index, change in self.changes.items()
            if change.at >= since and (with_deleted or not change.deleted)
        )
        return sorted([*untouched, *changed])


class Records:
    """Every collection of the world, made when first asked for."""

    def __init__(self, per_connection: int) -> None:
        self.per_connection = per_connection
        self._collections: dict[str, dict[str, Collection]] = {}

    def truth(self, connection: Connection, entity: str | None = None) -> dict[str, Any]:
        """`{entity: {key: updatedAt}}` of every live record; null where there is no time."""
        return {
            name: {
                collection.key(index): collection.shown_time(index) for index in collection.live()
            }
            for name, collection in self.of(connection).items()
            if entity in (None, name)
        }

    def of(self, connection: Connection) -> dict[str, Collection]:
        """The connection's collections by entity (`eam/assets`)."""
        collection = self._collections.get(connection.key)
        if collection is None:
            collection = self._collections[connection.key] = {}
            for entity, base in sizes(connection, self.per_connection).items():
                collection[entity] = Collection(collection, connection, entity, base)
        return collection

    def hand_over(self, before: Connection, after: Connection) -> None:
        """`after` has the records of `before` from now on, under the keys it gives them."""
        known = self._collections.pop(before.key, {})
        renames = (before.key_prefix, before.key_shift) != (after.key_prefix, after.key_shift)
        for collection in known.values() if renames else ():
            for change in collection.changes.values():
                if change.fields and "key" in change.fields:
                    own = change.fields["key"]
                    kept = after.key_shift == before.key_shift
                    new = own if kept else f"{crc32(f'{own}:{after.key_shift}'.encode()):010d}"
                    change.fields = {**change.fields, "key": f"{after.key_prefix:02d}{new}"}
        self.bring_back(after, {name: c.changes for name, c in known.items()})

    def kept(self) -> dict[str, dict[str, dict[int, Change]]]:
        """Every change that was made, by connection, entity and index."""
        return {
            key: {name: c.changes for name, c in collection.items() if c.changes}
            for key, collection in self._collections.items()
            if any(c.changes for c in collection.values())
        }

    def bring_back(self, connection: Connection, changes: dict[str, dict[int, Change]]) -> None:
        """Make the changes that `kept` announced."""
        collections = self.of(connection)
        for entity, known in changes.items():
            if entity in collections:
                collections[entity].bring_back(known)
