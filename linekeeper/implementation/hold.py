"""Times in which an implementation was on hold: nobody's, and nothing is late for them. Pure.

They are stored as plain JSON values, in order; the last one has no end while it lasts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from linekeeper.implementation.calendar import WorkingCalendar

Interval = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Hold:
    """One of them. Times are aware UTC."""

    since: datetime
    until: datetime | None = None
    """None while it lasts."""


def holds_of(rows: Sequence[Mapping[str, Any]]) -> tuple[Hold, ...]:
    """What is stored."""
    return tuple(
        Hold(
            datetime.fromisoformat(row["since"]),
            datetime.fromisoformat(row["until"]) if row.get("until") else None,
        )
        for row in rows
    )


def begun(
    rows: Sequence[Mapping[str, Any]], at: datetime, due: Mapping[str, date]
) -> list[dict[str, Any]]:
    """What is stored once a hold begins at `at`; `due` are the days agreed by then, by gate."""
    days = {gate: day.isoformat() for gate, day in due.items()}
    return [*ended(rows, at), {"since": at.isoformat(), "due": days}]


def ended(rows: Sequence[Mapping[str, Any]], at: datetime) -> list[dict[str, Any]]:
    """What is stored once the last hold has ended at `at`, if it hadn't."""
    return [
        row if row.get("until") else {**row, "until": at.isoformat()} for row in map(dict, rows)
    ]


def days_of(hold: Hold, start: date, now: datetime, calendar: WorkingCalendar) -> float:
    """Working days that `hold` took from `start` on."""
    since, until = calendar.elapsed(start, hold.since), calendar.elapsed(start, hold.until or now)
    return max(until, 0.0) - max(since, 0.0)


def within(holds: Iterable[Hold], since: datetime, until: datetime) -> list[Interval]:
    """What of the time from `since` until `until` was on hold."""
    parts = ((max(hold.since, since), min(hold.until or until, until)) for hold in holds)
    return [(begin, end) for begin, end in parts if begin < end]


def without(pauses: Sequence[Interval], since: datetime, until: datetime) -> list[Interval]:
    """The time from `since` until `until` without `pauses`, which are in order."""
    spans = []
    for begin, end in pauses:
        if since < begin:
            spans.append((since, min(begin, until)))
        since = max(since, end)
    if since < until:
        spans.append((since, until))
    return [(begin, end) for begin, end in spans if begin < end]
