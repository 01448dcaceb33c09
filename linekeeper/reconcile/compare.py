"""What a record that was read means beside the one in the index. Pure (DESIGN "Poll")."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, TypeVar

Source = Literal["webhook", "poll", "event"]
"""`webhook`: the current state, read because a delivery named it. `poll`: the current state, read
in a listing. `event`: the state an event carried, which may be old by now."""


AHEAD = timedelta(minutes=1)
"""What was read later than now by more than that was read by a clock that was ahead, or this one is
behind: which of two readings is the later one can't be said by it."""


class Comparison(StrEnum):
    """What to do with a record that was read."""

    inserted = "inserted"
    updated = "updated"
    deleted = "deleted"
    """The source lists it as deleted."""
    same = "same"
    older = "older"
    """What the index holds was read later, or doesn't hold is deleted: nothing is written."""


@dataclass(frozen=True, slots=True)
class KnownRecord:
    """What the index holds."""

    time: datetime | None
    hash: str
    seen_at: datetime
    """When it was read."""
    deleted: bool = False
    natural_key: str | None = None
    plain_hash: str | None = None


@dataclass(slots=True)
class ReadRecord:
    """What was read; there may be millions."""

    time: datetime | None
    hash: str
    asked_at: datetime
    """When it was asked for: the state is from then or later."""
    current: bool = True
    """Whether it is the source's state, rather than one an event carried."""
    deleted: bool = False
    """Whether the source lists it as deleted."""


F = TypeVar("F", bound=ReadRecord)


@dataclass(frozen=True, slots=True)
class CompareResult:
    """A verdict, and whether the index disagreed with a source that reported no newer time."""

    verdict: Comparison
    mismatched: bool = False


_INSERTED = CompareResult(Comparison.inserted)
_UPDATED = CompareResult(Comparison.updated)
_MISMATCHED = CompareResult(Comparison.updated, mismatched=True)
_DELETED = CompareResult(Comparison.deleted)
_SAME = CompareResult(Comparison.same)
_OLDER = CompareResult(Comparison.older)


def decide(known: KnownRecord | None, reading: ReadRecord, *, now: datetime) -> CompareResult:
    """Newer by source time, then by contents; never over what was read later.

    A newer source time always wins. With an equal, missing or earlier one (clocks go back, some
    entities have none) the state asked for after the index's was read is the source's truth; one
    asked for before it lost a race. What an event carried wins by its source time alone.
    A state that was read later than `now` says nothing of that order: else what a clock that was
    ahead has read would be held until its time comes.
    """
    if reading.deleted:
        return _OLDER if known is None or known.deleted else _gone(known, reading, now)
    if known is None:
        return _INSERTED
    return _carried(known, reading) if not reading.current else _read(known, reading, now)


def _gone(known: KnownRecord, reading: ReadRecord, now: datetime) -> CompareResult:
    """What is deleted by the source's own word; where that was read first, it lives again."""
    is_news = _newer(known.time, reading.time) or (reading.current and _later(known, reading, now))
    return _DELETED if is_news else _OLDER


def _later(known: KnownRecord, reading: ReadRecord, now: datetime) -> bool:
    return reading.asked_at > known.seen_at or known.seen_at > now + AHEAD


def _carried(known: KnownRecord, reading: ReadRecord) -> CompareResult:
    if _newer(known.time, reading.time):
        return _INSERTED if known.deleted else _UPDATED
    return _SAME if known.hash == reading.hash and not known.deleted else _OLDER


def _read(known: KnownRecord, reading: ReadRecord, now: datetime) -> CompareResult:
    newer = _newer(known.time, reading.time)
    later = _later(known, reading, now)
    if known.deleted:
        return _INSERTED if newer or later else _OLDER
    if known.hash == reading.hash:
        return _SAME
    if newer or not later:
        return _UPDATED if newer else _OLDER
    return _UPDATED if known.time is None or reading.time is None else _MISMATCHED


def better(first: F, second: F) -> F:
    """Return the newer of two readings of one key in the same listing (the later, if equal).

    Pages shift while they are read, so a key may come twice.
    """
    return first if _newer(second.time, first.time) else second


def was_announced(
    known: KnownRecord | None, reading: ReadRecord, delivered_at: datetime | None, *, now: datetime
) -> bool:
    """Whether a delivery that came at `delivered_at` announced the change from known to found.

    It did unless the index was read after it came (then it announced that), or the change was
    made after it came. A source time in the future says nothing.
    """
    if delivered_at is None:
        return False
    if known is not None and delivered_at < known.seen_at:
        return False
    return reading.time is None or reading.time > now or delivered_at >= reading.time


def _newer(known: datetime | None, read: datetime | None) -> bool:
    return known is not None and read is not None and read > known
