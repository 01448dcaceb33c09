"""Records that were listed, gathered until there are enough for one transaction."""

from collections.abc import KeysView, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from linekeeper.reconcile.compare import better
from linekeeper.reconcile.upsert import Read, read_records

BATCH_RECORDS = 2_000
BATCH_BYTES = 8 << 20


@dataclass(slots=True)
class Batch:
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
        """Add a page; returns its keys. Contents are kept only where `bodies` are wanted."""
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

    @property
    def is_full(self) -> bool:
        """Whether to write it before adding more."""
        return len(self.read) >= self.most or self.size >= BATCH_BYTES


def in_order(read: dict[str, Read]) -> list[dict[str, Read]]:
    """`read` by key, in pieces of one transaction each; one empty piece where there is nothing."""
    if len(read) <= BATCH_RECORDS:
        return [read]
    keys = sorted(read)
    pieces = (keys[start : start + BATCH_RECORDS] for start in range(0, len(keys), BATCH_RECORDS))
    return [{key: read[key] for key in piece} for piece in pieces]
