"""How many calls a minute are answered."""

from __future__ import annotations

import math
from collections.abc import Callable


class Limit:
    """A window of 60 s that opens with the first call and holds a number of calls."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._opened = -math.inf
        self._calls = 0

    def wait(self, per_minute: int) -> int:
        """Count a call; 0 if it may pass, else the whole seconds until the next window."""
        now = self._clock()
        if not 0 <= now - self._opened < 60:
            self._opened = now
            self._calls = 0
        if self._calls >= per_minute:
            return max(1, math.ceil(self._opened + 60 - now))
        self._calls += 1
        return 0
