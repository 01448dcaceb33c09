"""The keys of one complete listing, in eight bytes each."""

from array import array
from bisect import bisect_left

_PARTS = 256
_MASK = (1 << 64) - 1


class KeySet:
    """Remembers which keys were listed, however many: eight bytes a key.

    Two of a million keys look alike once in forty million times; then one that is gone passes for
    listed, until a listing of another process.
    """

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(_PARTS)]
        self._sorted = True

    def add(self, key: str) -> None:
        """`key` was listed."""
        digest = hash(key) & _MASK
        self._parts[digest % _PARTS].append(digest)
        self._sorted = False

    def __contains__(self, key: str) -> bool:
        digest = hash(key) & _MASK
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
            self._parts = [array("Q", sorted(set(part))) for part in self._parts]
            self._sorted = True
