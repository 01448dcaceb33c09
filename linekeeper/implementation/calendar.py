"""Working days: weekends and public holidays of the customer's country.

Plans count in working days from a start; here they become dates, and dates become working days.
A working day has eight hours, 9:00 to 17:00 where the customer is.
"""

import math
from bisect import bisect_left
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from importlib import import_module
from types import ModuleType

from linekeeper.implementation.scope import PlanError

FIRST_HOUR, HOURS = 9, 8
_ROUNDING = 1e-3


class WorkingCalendar:
    """The working days of one country (ISO 3166 alpha-2), or weekdays only without one.

    Weekends are the country's own (Friday and Saturday in some). Raises `PlanError` for a country
    the `holidays` library doesn't know. `zone` is where the customer's day begins and ends.
    """

    def __init__(self, country: str | None = None, zone: tzinfo = UTC) -> None:
        self.country = country
        self.zone = zone
        if country is not None and country not in _known_countries():
            raise PlanError("country", f"{country} is not a country whose holidays are known")

    def is_working(self, day: date) -> bool:
        """Neither weekend nor public holiday."""
        days, at = _working_days(self.country, day.year), day.toordinal()
        index = bisect_left(days, at)
        return index < len(days) and days[index] == at

    def first(self, day: date) -> date:
        """`day`, or the next working day."""
        return self._nth(day, 0)

    def finish(self, start: date, days: float) -> date:
        """The working day on which `days` of work are done that begin in the morning of `start`.

        One day's work is done on the first working day itself, five from a Monday on Friday.
        """
        return self._nth(start, max(math.ceil(days - _ROUNDING) - 1, 0))

    def later(self, day: date, days: int) -> date:
        """The working day `days` after `day`; `day` itself where they are none."""
        return self._nth(day, days) if days > 0 else day

    def ordinal(self, start: date, days: float, *, ending: bool) -> float:
        """`days` after the morning of `start` as a place on a time axis, in calendar days.

        Between two days it is the evening of the first if something is `ending`, else the morning
        of the second: a week's bar reaches from Monday to Friday and no further.
        """
        whole = math.floor(days + _ROUNDING)
        part = max(days - whole, 0.0)
        if ending and part < _ROUNDING and whole > 0:
            whole, part = whole - 1, 1.0
        return self._nth(start, whole).toordinal() + part

    def elapsed(self, start: date, at: datetime) -> float:
        """Working days from the morning of `start` until `at` (aware); negative before it."""
        local = at.astimezone(self.zone)
        part = self.part_of_day(at) if self.is_working(local.date()) else 0.0
        return self.between(start, local.date()) + part

    def part_of_day(self, at: datetime) -> float:
        """How much of a working day's hours has passed at `at` (aware), 0 to 1."""
        local = at.astimezone(self.zone)
        hours = local.hour + local.minute / 60 + local.second / 3600 - FIRST_HOUR
        return min(max(hours / HOURS, 0.0), 1.0)

    def between(self, start: date, end: date) -> int:
        """Working days from `start` until before `end`; negative if `end` is earlier."""
        if end < start:
            return -self.between(end, start)
        first, last = start.toordinal(), end.toordinal()
        years = (_working_days(self.country, year) for year in range(start.year, end.year + 1))
        return sum(bisect_left(days, last) - bisect_left(days, first) for days in years)

    def _nth(self, start: date, steps: int) -> date:
        """The working day `steps` after the first one on or after `start`."""
        year, first = start.year, start.toordinal()
        while True:
            days = _working_days(self.country, year)
            index = bisect_left(days, first) + steps
            if index < len(days):
                return date.fromordinal(days[index])
            steps = index - len(days)
            year += 1


def _library() -> ModuleType:
    """The library of holidays. To import it takes a sixth of a second that most runs don't need."""
    return import_module("holidays")


@lru_cache
def _known_countries() -> frozenset[str]:
    return frozenset(code for code in _library().list_supported_countries() if len(code) == 2)


@lru_cache(maxsize=512)
def _working_days(country: str | None, year: int) -> tuple[int, ...]:
    """The working days of a year, as ordinals in order."""
    known = None if country is None else _library().country_holidays(country, years=year)
    weekend = {5, 6} if known is None else known.weekend
    day = date(year, 1, 1)
    days = []
    while day.year == year:
        if day.weekday() not in weekend and (known is None or day not in known):
            days.append(day.toordinal())
        day += timedelta(days=1)
    return tuple(days)
