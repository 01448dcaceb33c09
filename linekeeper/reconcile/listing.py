"""What is remembered of a listing while it is read: keys, sizes, and records for a transaction."""

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from linekeeper.reconcile.compare import better
from linekeeper.reconcile.upsert import Read, read_records
from linekeeper.store.engine import chunked

CLOCKS = timedelta(minutes=1)
"""How far a source's clock may be behind ours without a change being overlooked."""
_PARTS = 256


@dataclass(slots=True)
class Sizes:
    """How many records the source said it has, page by page."""

    pages: int = 0
    last: int | None = None
    shrank: bool = False
    """Records went meanwhile, so those behind them moved up and some were never shown."""
    changed: bool = False

    def record_total(self, total: int | None) -> None:
        """A page said `total`, or nothing."""
        if self.pages and total is not None and self.last is not None:
            self.shrank = self.shrank or total < self.last
        self.changed = self.changed or (self.pages > 0 and total != self.last)
        self.pages += 1
        self.last = total if total is not None else self.last

    def is_consistent(
        self,
        listed: int,
        newest: datetime | None,
        *,
        started: datetime,
        grain: timedelta | None = None,
    ) -> bool:
        """Whether `listed` different keys, changed up to `newest`, must be all there are.

        One page is the picture of a moment. Between two a record can slip through when one before
        it goes or moves: then the totals differ, fewer keys came than there are, or something
        changed after the listing `started`. Where a source says no totals, nothing is proved.
        """
        if self.pages <= 1:
            return True
        complete = not self.changed and self.last is not None and listed >= self.last
        quiet_since = started - CLOCKS - (grain or timedelta())
        return complete and (newest is None or newest < quiet_since)


class KeySet:
    """Remembers which keys were listed, however many: eight bytes a key, in parts, of which there
    are as many as are needed: most listings bring a record or none.

    Two of a million keys look alike once in forty million times; then one that is gone passes for
    listed, until a listing of another process.
    """

    def __init__(self) -> None:
        self._parts: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))
        self._sorted = True

    def update(self, keys: Iterable[str]) -> None:
        """`keys` were listed."""
        parts = self._parts
        for digest in map(hash, keys):
            parts[digest % _PARTS].append(digest)
        self._sorted = False

    def __contains__(self, key: str) -> bool:
        digest = hash(key)
        self._sort()
        part = self._parts.get(digest % _PARTS, ())
        partition = bisect_left(part, digest)
        return partition < len(part) and part[partition] == digest

    def __len__(self) -> int:
        """How many different keys were listed."""
        self._sort()
        return sum(map(len, self._parts.values()))

    def _sort(self) -> None:
        if not self._sorted:
            for number, part in self._parts.items():
                self._parts[number] = array("q", sorted(set(part)))
            self._sorted = True


BATCH_RECORDS = 2_000
BATCH_BYTES = 8 << 20


@dataclass(slots=True)
class WriteBatch:
    """Records to write together, as they came."""

    asked_at: datetime
    """When the first of them was asked for."""
    fields: Sequence[str] = ()
    """Those their natural key is made from."""
    read: dict[str, Read] = field(default_factory=dict)
    size: int = 0
    """Bytes of JSON."""
    most: int = BATCH_RECORDS
    """Records after which it is full."""

    def add(self, records: Sequence[Mapping[str, Any]], *, bodies: bool) -> KeysView[str]:
        """Add a page; returns its keys. Their JSON is kept only where `bodies` are wanted."""
        read = read_records(records, asked_at=self.asked_at, fields=self.fields)
        if bodies:
            self.size += sum(len(record.text) for record in read.values())
        else:
            for record in read.values():
                record.text = b""
        again = self.read.keys() & read.keys()
        for key in again:
            read[key] = better(self.read[key], read[key])
        self.read.update(read)
        return read.keys()

    def deleted_of(self, keys: Iterable[str]) -> list[str]:
        """Those of `keys` that the source lists as deleted."""
        return [key for key in keys if self.read[key].deleted]

    @property
    def is_full(self) -> bool:
        """Whether to write it before adding more."""
        return len(self.read) >= self.most or self.size >= BATCH_BYTES


def in_order(read: dict[str, Read]) -> Iterator[dict[str, Read]]:
    """`read` by key, in pieces of one transaction each; one empty piece where there is nothing.

    It is taken apart: what of it was written is held no longer.
    """
    if len(read) <= BATCH_RECORDS:
        yield read
        return
    for keys in chunked(sorted(read), BATCH_RECORDS):
        yield {key: read.pop(key) for key in keys}
