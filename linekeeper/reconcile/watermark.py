"""How far an entity has been read, and from where to read on. Pure; times are aware, UTC."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from math import gcd

OVERLAP = timedelta(minutes=15)
"""Read again before the watermark: a source may show a change some time after its `updatedAt`."""


GRAINS = tuple(
    timedelta(**{unit: 1}) for unit in ("days", "hours", "minutes", "seconds", "microseconds")
)
"""How coarse a source's clock may be; it is taken for the coarsest that explains its times."""
ENOUGH_TIMES = 3
"""Different times from which a grain is learned; fewer may be alike by chance."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT = timedelta(microseconds=1)
_QUARTER = timedelta(minutes=15)


class Grain:
    """Learns how coarse a source's `updatedAt` is, whatever zone its days and hours are of."""

    def __init__(self, known: timedelta | None = None) -> None:
        self._known = known
        self._first: datetime | None = None
        self._step = 0
        """The greatest common divisor of all differences, in microseconds."""
        self._times: set[datetime] = set()

    def observe(self, times: Iterable[datetime]) -> None:
        """The source gave these source times."""
        if self._step == 1:
            return  # nothing finer is to be learned
        for time in times:
            if self._first is None:
                self._first = time
            self._step = gcd(self._step, (time - self._first) // _INSTANT)
            if len(self._times) < ENOUGH_TIMES:
                self._times.add(time)

    @property
    def learned(self) -> timedelta | None:
        """The grain, finer than or as before; from enough times anew; None while unknown."""
        if not self._step:
            return self._known
        step = self._step * _INSTANT
        seen = next(grain for grain in GRAINS if not step % grain)
        if len(self._times) >= ENOUGH_TIMES:
            return seen
        return None if self._known is None else min(seen, self._known)


def read_from(
    position: datetime,
    moved_at: datetime | None,
    polled_at: datetime | None,
    *,
    grain: timedelta | None = None,
) -> datetime:
    """Return the source time from which on to ask, for a watermark at `position`.

    That is `OVERLAP` and one `grain` of the source's clock before it. Once a whole run has begun
    more than `OVERLAP` after the run that moved it, what lies behind it has been read again
    already, and is left out: a source in which nothing changes is asked for little. The position
    itself is always included: with a coarse clock, what changes later on the same day (hour,
    minute) has the same source time.
    """
    unit = grain or _INSTANT
    settled = moved_at is not None and polled_at is not None and polled_at - moved_at >= OVERLAP
    if not settled:
        return position - OVERLAP - unit
    # Days may begin at any quarter of an hour in UTC; a position between two was our own clock's.
    is_a_source_time = not (position - _EPOCH) % min(unit, _QUARTER)
    return position if is_a_source_time else position - unit


def move(
    position: datetime | None, newest: datetime | None, *, started: datetime
) -> datetime | None:
    """Where the watermark is after a run that began at `started` and read everything.

    The newest source time seen, at most `started` (a time in the future would skip what comes
    before it), and never back. Where no record has a time it stays None.
    """
    seen = [min(time, started) for time in (position, newest) if time is not None]
    return max(seen, default=None)
