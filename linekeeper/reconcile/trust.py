"""How far a connection's webhooks can be relied on (MISSION B3). Pure.

A change is announced in time, announced late, or lost; what changed in an outage of our own is
counted apart and says nothing of the sender. Miss rate = lost / (lost + announced).
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

State = Literal["good", "bad", "none", "unknown"]

WINDOW = timedelta(days=7)
ENOUGH = 20
"""Changes in the window before a rate says anything."""
BAD = 0.05
GOOD = 0.02
"""Between the two the state stays what it was."""
LATE = 900.0
"""Seconds; webhooks that come later than this on average are no better than polling."""
NONE_AFTER = 5
"""Missed changes with not one webhook: nothing is configured to send them."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was counted over the window, each change once."""

    lost: int = 0
    """Never announced so far."""
    late: int = 0
    """Announced, but only after we had found them by reading."""
    webhooks_seen: int = 0
    """Announced in time."""
    late_seconds: float = 0.0
    caught_up: int = 0
    """Changed in an outage of ours, and known since, by reading or by a repeated delivery."""

    @property
    def announced(self) -> int:
        """Changes a delivery announced, in time or late."""
        return self.webhooks_seen + self.late

    @property
    def changes(self) -> int:
        """All that the sender answers for."""
        return self.lost + self.announced

    @property
    def miss_rate(self) -> float | None:
        """The share that was never announced; None without any change."""
        return self.lost / self.changes if self.changes else None

    @property
    def mean_delay(self) -> float | None:
        """Seconds from change to delivery of the late ones; None without any."""
        return self.late_seconds / self.late if self.late else None


def state_after(before: str, measured: Measured, *, ever_announced: bool) -> State:
    """The state of trust after `before`.

    `ever_announced`: a delivery has come within the window, also one that announced no change.
    Where none came, they come no more than before: a quiet time proves nothing.
    """
    nothing_came = measured.announced == 0 and not ever_announced
    if nothing_came and (before == "none" or measured.lost >= NONE_AFTER):
        return "none"
    rate, delay = measured.miss_rate, measured.mean_delay
    if rate is None or measured.changes < ENOUGH:
        return "bad" if before == "bad" and measured.lost else "unknown"
    tardy = delay is not None and delay > LATE and measured.late > GOOD * measured.changes
    if rate > BAD or tardy:
        return "bad"
    if rate <= GOOD:
        return "good"
    return "bad" if before == "bad" else "good" if before == "good" else "unknown"
