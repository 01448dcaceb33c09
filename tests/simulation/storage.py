"""A disk that errs: single statements fail, or for some seconds all that write."""

import sqlite3
from typing import TYPE_CHECKING

from tests.simulation.loop import HOST

if TYPE_CHECKING:
    from tests.simulation.universe import Universe


class Failing:
    """Lets a statement of a process of ours fail, and for `seconds` after it those that write."""

    def __init__(self, universe: "Universe", number: int, seconds: float) -> None:
        self._universe = universe
        self._left = number
        self._seconds = seconds
        self._until = 0.0

    def __call__(self, statement: str) -> None:
        host, now = HOST.get(), self._universe.loop.time()
        if host is None or host.name == "setup":
            return
        self._left -= 1
        if self._left == 0:
            self._until = now + self._seconds
        elif self._left > 0 or now >= self._until or statement.startswith(("SELECT", "COMMIT")):
            return
        self._universe.say(f"trouble: the database fails {host.name}: {statement[:40]!r}")
        raise sqlite3.OperationalError("disk I/O error")
