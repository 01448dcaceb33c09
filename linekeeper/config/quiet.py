"""Hours and days in which a channel is quiet. Pure; instants are UTC, hours are local."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

_HOURS = re.compile(r"(\d{1,2}):(\d{2})\s*[-–]\s*(\d{1,2}):(\d{2})")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Quiet:
    """From `start` to `end` each day (past midnight if `end` is earlier), and all of `days`."""

    start: time | None = None
    end: time | None = None
    days: frozenset[int] = frozenset()
    """Days of the week, Monday is 0."""
    zone: tzinfo = UTC

    def holds(self, at: datetime) -> bool:
        """Whether it is quiet at `at`."""
        local = at.astimezone(self.zone)
        if local.weekday() in self.days:
            return True
        if self.start is None or self.end is None:
            return False
        clock = local.time()
        if self.start < self.end:
            return self.start <= clock < self.end
        return clock >= self.start or clock < self.end

    def until(self, at: datetime) -> datetime:
        """When the quiet that holds at `at` ends; `at` itself where none does."""
        if not self.holds(at):
            return at
        ends = (edge for edge in self._edges(at, range(-1, 10)) if edge > at)
        return next((edge for edge in ends if not self.holds(edge)), at + timedelta(days=9))

    def ended(self, at: datetime) -> datetime | None:
        """When it was last quiet until, at or before `at`; None within the last nine days."""
        if self.start is None and not self.days:
            return None
        for edge in reversed(list(self._edges(at, range(-9, 2)))):
            if edge <= at and not self.holds(edge) and self.holds(edge - _INSTANT):
                return edge
        return None

    def _edges(self, at: datetime, days: range) -> Iterator[datetime]:
        """The instants around `at` at which quiet may begin or end, in order."""
        today = at.astimezone(self.zone).date()
        clocks = {time(0), *(clock for clock in (self.start, self.end) if clock is not None)}
        edges = {
            datetime.combine(today + timedelta(days=day), clock, self.zone).astimezone(UTC)
            for day in days
            for clock in clocks
        }
        yield from sorted(edges)


def quiet_times(hours: str, days: str, zone: str) -> Quiet:
    """What an operator wrote: `22:00-07:00`, `sat, sun`, `Europe/Berlin`; empty: never.

    Raises `ValueError` that says what is wrong.
    """
    numbers = frozenset(_day(word) for word in re.split(r"[,\s]+", days.strip()) if word)
    if len(numbers) == len(_DAYS):
        raise ValueError("quiet days: all seven days are quiet, so nobody would ever be notified")
    start = end = None
    if hours.strip():
        found = _HOURS.fullmatch(hours.strip())
        if found is None:
            raise ValueError(f"quiet hours: write them as 22:00-07:00, not {hours.strip()[:40]!r}")
        try:
            start = time(int(found[1]), int(found[2]))
            end = time(int(found[3]), int(found[4]))
        except ValueError:
            raise ValueError(f"quiet hours: there is no such time in {hours.strip()!r}") from None
        if start == end:
            raise ValueError("quiet hours: begin and end are the same")
    return Quiet(start, end, numbers, time_zone(zone))


def time_zone(name: str) -> ZoneInfo:
    """The zone called `name`. Raises `ValueError`."""
    try:
        return ZoneInfo(name.strip() or "UTC")
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"there is no time zone {name[:60]!r}; write it as Europe/Berlin"
        ) from None


def _day(word: str) -> int:
    try:
        return _DAYS.index(word.strip().lower()[:3])
    except ValueError:
        raise ValueError(f"quiet days: there is no day {word[:20]!r}; write sat, sun") from None
