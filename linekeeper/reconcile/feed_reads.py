"""Which key read which part of the change feed, gathered in memory and written in groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import insert

from linekeeper.store import Store, new_id
from linekeeper.store.tables import FeedRead

MOST_HELD = 1_000
"""Rows held while the database can't be written; older ones give way."""


@dataclass(slots=True)
class Stretch:
    """A part of the feed that one key has read without a gap."""

    key_id: str
    after: int
    upto: int
    at: datetime


class FeedReads:
    """The reads of one process that are not written yet."""

    def __init__(self) -> None:
        self._held: list[Stretch] = []

    def note(self, key_id: str, after: int, upto: int, *, at: datetime) -> None:
        """The key was given what lies between two positions; a read without news is none."""
        if upto <= after:
            return
        for stretch in reversed(self._held):
            if stretch.key_id == key_id and stretch.upto == after:
                stretch.upto, stretch.at = upto, at
                return
        self._held.append(Stretch(key_id, after, upto, at))

    async def flush(self, store: Store) -> None:
        """Write what was gathered; if that fails it is kept for the next time, and raised."""
        held, self._held = self._held, []
        if not held:
            return
        try:
            async with store.write() as session:
                await session.execute(insert(FeedRead), _rows(held))
        except BaseException:
            self._held = (held + self._held)[-MOST_HELD:]
            raise


def _rows(stretches: Sequence[Stretch]) -> list[dict[str, object]]:
    return [
        {
            "id": new_id(),
            "key_id": stretch.key_id,
            "after": stretch.after,
            "upto": stretch.upto,
            "at": stretch.at,
        }
        for stretch in stretches
    ]
