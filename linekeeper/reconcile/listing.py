"""What is remembered of one listing while it is read: its keys, and how many it said there are."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

CLOCKS = timedelta(minutes=1)
"""By how much a source's clock may be behind ours without a change being overlooked."""
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

    def proves(
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
    """Remembers which keys were listed, however many: eight bytes a key.

    Two of a million keys look alike once in forty million times; then one that is gone passes for
    listed, until a listing of another process.
    """

    def __init__(self) -> None:
        self._parts = [array("q") for _ in range(_PARTS)]
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
        part = self._parts[digest % _PARTS]
        place = bisect_left(part, digest)
        return place < len(part) and part[place] == digest

    def __len__(self) -> int:
        """How many different keys were listed."""
        self._sort()
        return sum(map(len, self._parts))

    def _sort(self) -> None:
        if not self._sorted:
            self._parts = [array("q", sorted(set(part))) for part in self._parts]
            self._sorted = True
