"""How fast trouble is seen and resolved, and how alerts are taken. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

FALSE_ALARM = timedelta(minutes=15)
"""What resolves by itself within it was not worth a notification."""


@dataclass(frozen=True, slots=True)
class Life:
    """An incident from beginning to end, with what people were notified of."""

    id: str
    kind: str
    title: str
    severity: str
    opened_at: datetime
    """When its present trouble began: it may have been reopened."""
    resolved_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    merged: bool = False
    """It went on in a wider incident."""
    is_unwatched: bool = False
    """It ended as its app was removed: its trouble may go on."""
    message: str | None = None
    """The message that notified of it first; several incidents may share one."""
    notified_at: datetime | None = None
    withheld: str = ""
    """Why nobody was notified of it."""
    signs_at: datetime | None = None
    """The first sign of it."""
    by_customer: bool = False
    """A customer logged in."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How long something took, over several times."""

    median: timedelta
    worst: timedelta


@dataclass(frozen=True, slots=True)
class Measures:
    """Over a span of time. Shares are 0 to 1; None where there is nothing to measure."""

    opened: int
    resolved: int
    open: int
    messages: int
    """First messages."""
    withheld: int
    detect: Spread | None
    """The time from the first sign to the incident."""
    reconnect: Spread | None
    """The time from a lost login to a new one that works."""
    resolve: Spread | None
    """The time from the incident to its end, of everything else."""
    alone: float | None
    """Resolved automatically."""
    acknowledged: float | None
    acknowledge: Spread | None
    false_alarm_share: float | None


def measure(lives: Iterable[Life], *, since: datetime, now: datetime) -> Measures:
    """The measures of what was opened, or ended, after `since`."""
    everything = [life for life in lives if life.opened_at <= now]
    opened = [life for life in everything if life.opened_at > since]
    causes = [life for life in opened if not life.merged]
    ended = [
        life
        for life in everything
        if life.resolved_at is not None and since < life.resolved_at <= now
        if not (life.merged or life.is_unwatched)
    ]
    notified = [life for life in opened if life.notified_at is not None]
    causes_notified = [life for life in causes if life.notified_at is not None]
    messages = len({life.message or life.id for life in notified})
    logins = [life for life in ended if life.kind == "reauthorization_required"]
    others = [life for life in ended if life.kind != "reauthorization_required"]
    taken = [life for life in causes_notified if life.acknowledged_at is not None]
    false = [life for life in causes_notified if _is_false(life)]
    return Measures(
        opened=len(causes),
        resolved=len(ended),
        open=sum(life.resolved_at is None or life.resolved_at > now for life in everything),
        messages=messages,
        withheld=sum(bool(life.withheld) and not life.merged for life in opened),
        detect=_spread(
            causes, lambda life: life.opened_at - life.signs_at if life.signs_at else None
        ),
        reconnect=_spread(logins, _lasted),
        resolve=_spread(others, _lasted),
        alone=_share([life for life in ended if _is_alone(life)], ended),
        acknowledged=_share(taken, causes_notified),
        acknowledge=_spread(taken, _taken_after),
        false_alarm_share=_share(false, causes_notified),
    )


def _lasted(life: Life) -> timedelta | None:
    return life.resolved_at - life.opened_at if life.resolved_at else None


def _taken_after(life: Life) -> timedelta | None:
    if life.acknowledged_at is None or life.notified_at is None:
        return None
    return life.acknowledged_at - life.notified_at


def _is_alone(life: Life) -> bool:
    return life.acknowledged_at is None and not life.by_customer


def _is_false(life: Life) -> bool:
    lasted = _lasted(life)
    is_short = lasted is not None and lasted <= FALSE_ALARM
    return is_short and _is_alone(life) and not life.is_unwatched


def _share(lives: Sequence[Life], of: Sequence[Life]) -> float | None:
    return len(lives) / len(of) if of else None


def _spread(lives: Iterable[Life], length: Callable[[Life], timedelta | None]) -> Spread | None:
    lengths = [max(lasted, timedelta()) for life in lives if (lasted := length(life)) is not None]
    if not lengths:
        return None
    middle = median(length.total_seconds() for length in lengths)
    return Spread(timedelta(seconds=middle), max(lengths))
