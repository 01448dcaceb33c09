"""How fast trouble is seen and mended, and how alerts are taken. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

FALSE_ALARM = timedelta(minutes=15)
"""What people were told and is gone by itself within it was not worth telling."""


@dataclass(frozen=True, slots=True)
class Life:
    """An incident from beginning to end, with what people were told of it."""

    id: str
    kind: str
    title: str
    severity: str
    opened_at: datetime
    resolved_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    merged: bool = False
    """It went on in a wider incident."""
    message: str | None = None
    """The message that told of it first; several incidents may share one."""
    told_at: datetime | None = None
    withheld: str = ""
    """Why it was never told."""
    signs_at: datetime | None = None
    """The first sign of it."""
    by_customer: bool = False
    """A customer logged in."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How long something took, over several times."""

    median: timedelta
    worst: timedelta
    count: int


@dataclass(frozen=True, slots=True)
class Measures:
    """Over a span of time. Shares are 0 to 1; None where there is nothing to measure."""

    opened: int
    resolved: int
    open: int
    told: int
    messages: int
    """First messages."""
    withheld: int
    per_cause: float | None
    """First messages per root cause."""
    detect: Spread | None
    """From the first sign to the incident."""
    reconnect: Spread | None
    """From a lost login to a new one that works."""
    mend: Spread | None
    """From the incident to its end, of everything else."""
    alone: float | None
    """Resolved automatically."""
    acknowledged: float | None
    acknowledge: Spread | None
    false_alarms: int
    false_alarm_share: float | None


def measure(lives: Iterable[Life], *, since: datetime, now: datetime) -> Measures:
    """The measures of what was opened, or ended, after `since`."""
    everything = [one for one in lives if one.opened_at <= now]
    opened = [one for one in everything if one.opened_at > since]
    causes = [one for one in opened if not one.merged]
    ended = [
        one
        for one in everything
        if one.resolved_at is not None and since < one.resolved_at <= now and not one.merged
    ]
    told = [one for one in opened if one.told_at is not None]
    heard = [one for one in causes if one.told_at is not None]
    messages = len({one.message or one.id for one in told})
    logins = [one for one in ended if one.kind == "reauthorization_required"]
    others = [one for one in ended if one.kind != "reauthorization_required"]
    taken = [one for one in heard if one.acknowledged_at is not None]
    false = [one for one in heard if _is_false(one)]
    return Measures(
        opened=len(causes),
        resolved=len(ended),
        open=sum(one.resolved_at is None or one.resolved_at > now for one in everything),
        told=len(heard),
        messages=messages,
        withheld=sum(bool(one.withheld) and not one.merged for one in opened),
        per_cause=messages / len(heard) if heard else None,
        detect=_spread(causes, lambda one: one.opened_at - one.signs_at if one.signs_at else None),
        reconnect=_spread(logins, _lasted),
        mend=_spread(others, _lasted),
        alone=_share([one for one in ended if _is_alone(one)], ended),
        acknowledged=_share(taken, heard),
        acknowledge=_spread(taken, _taken_after),
        false_alarms=len(false),
        false_alarm_share=_share(false, heard),
    )


def _lasted(one: Life) -> timedelta | None:
    return one.resolved_at - one.opened_at if one.resolved_at else None


def _taken_after(one: Life) -> timedelta | None:
    if one.acknowledged_at is None or one.told_at is None:
        return None
    return one.acknowledged_at - one.told_at


def _is_alone(one: Life) -> bool:
    return one.acknowledged_at is None and not one.by_customer


def _is_false(one: Life) -> bool:
    lasted = _lasted(one)
    return lasted is not None and lasted <= FALSE_ALARM and _is_alone(one)


def _share(some: Sequence[Life], of: Sequence[Life]) -> float | None:
    return len(some) / len(of) if of else None


def _spread(lives: Iterable[Life], length: Callable[[Life], timedelta | None]) -> Spread | None:
    lengths = [max(found, timedelta()) for one in lives if (found := length(one)) is not None]
    if not lengths:
        return None
    middle = median(length.total_seconds() for length in lengths)
    return Spread(timedelta(seconds=middle), max(lengths), len(lengths))
