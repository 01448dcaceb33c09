"""What each minute of a connection's month was spent on. Pure.

A month is cut at every moment at which something changes; each piece is one waiting. The pieces
are rounded to whole minutes so that they sum to the whole.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum, auto
from itertools import accumulate, pairwise

LEAD = timedelta(minutes=15)
"""How long it takes until those that fell together are all found silent."""


class WaitedFor(StrEnum):
    """What was waited for."""

    healthy = auto()
    customer_login = auto()
    customer_system = auto()
    makini = auto()
    us = auto()
    product = auto()
    unknown = auto()


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """A time from `since` until just before `until`."""

    since: datetime
    until: datetime

    def covers(self, at: datetime) -> bool:
        """Whether `at` lies in it."""
        return self.since <= at < self.until


@dataclass(frozen=True, slots=True)
class Turn:
    """The moment from which on an axis has a value."""

    at: datetime
    value: str


@dataclass(frozen=True, slots=True)
class History:
    """One connection's month; each axis begins with its value at the month's start."""

    label: str
    customer: str
    setup: Sequence[Turn]
    health: Sequence[Turn]
    app: str
    connection_id: str


@dataclass(frozen=True, slots=True)
class Troubles:
    """What else explains that a connection was not healthy."""

    ours: Sequence[TimeSpan] = ()
    """Nothing of ours could store, or no sweep looked."""
    apps: Mapping[str, Sequence[TimeSpan]] = field(default_factory=dict)
    """The times in which an app was unreachable as a whole, by app."""
    products: Mapping[str, Sequence[TimeSpan]] = field(default_factory=dict)
    """The times in which the product accepted no messages, by app."""
    unwatched: Sequence[TimeSpan] = ()
    """No sweep was completed, and that was an incident; or everything was paused, or nothing of
    ours ran: what was well before is not known then."""
    removed: Mapping[str, Sequence[TimeSpan]] = field(default_factory=dict)
    """The times in which the settings did not name an app, by app. What was open of it was resolved
    then, so that of a system that is unreachable nobody knows why either."""

    def unseen(self, app: str) -> Sequence[TimeSpan]:
        """The times in which nobody looked at the connections of `app`."""
        return (*self.unwatched, *self.removed.get(app, ()))


@dataclass(frozen=True, slots=True)
class AvailabilityLine:
    """The minutes of one connection; they sum to `total`."""

    customer: str
    label: str
    minutes: Mapping[WaitedFor, int]
    connection_id: str

    @property
    def total(self) -> int:
        """The minutes in which the connection was live."""
        return sum(self.minutes.values())


def line_of(history: History, troubles: Troubles, month: TimeSpan) -> AvailabilityLine:
    """The minutes of one connection's month. Only those in which it was live are counted."""
    cuts = sorted(_cuts(history, troubles, month))
    seconds = dict.fromkeys(WaitedFor, 0.0)
    for since, until in pairwise(cuts):
        if _value(history.setup, since) == "live":
            waiting = _waiting(history, troubles, since)
            seconds[waiting] += (until - since).total_seconds()
    return AvailabilityLine(
        history.customer, history.label, whole_minutes(seconds), history.connection_id
    )


def whole_minutes(seconds: Mapping[WaitedFor, float]) -> dict[WaitedFor, int]:
    """Seconds as minutes that sum to the whole: those with the largest remainder are rounded up."""
    minutes = {waiting: int(value // 60) for waiting, value in seconds.items()}
    missing = round(sum(seconds.values()) / 60) - sum(minutes.values())
    by_remainder = sorted(seconds, key=lambda waiting: seconds[waiting] % 60, reverse=True)
    for waiting in by_remainder[:missing]:
        minutes[waiting] += 1
    return minutes


def spans_of(value: str, turns: Sequence[Turn], within: TimeSpan) -> list[TimeSpan]:
    """The times within `within` in which an axis had `value`. Pure."""
    ends = [*(turn.at for turn in turns[1:]), within.until]
    spans = (
        TimeSpan(max(turn.at, within.since), min(end, within.until))
        for turn, end in zip(turns, ends, strict=True)
        if turn.value == value
    )
    return [span for span in spans if span.since < span.until]


def spans_as_a_whole(members: Sequence[TimeSpan]) -> list[TimeSpan]:
    """The times in which an incident's connections were away together. Pure.

    `members` has when each was away in it, once for each time. Together they are away while they
    are several, and at least half as many as they ever were; who is left then has a reason of its
    own. They are found silent one by one, so it begins up to `LEAD` earlier.
    """
    turns: Counter[datetime] = Counter()
    for span in members:
        turns[span.since] += 1
        turns[span.until] -= 1
    running = list(accumulate(turns[at] for at in sorted(turns)))
    most = max(running, default=0)
    spans: list[TimeSpan] = []
    first = began = None
    for at, count in zip(sorted(turns), running, strict=True):
        first = (first or at) if count else None
        if first is not None and count > 1 and 2 * count >= most:
            began = began or max(first, at - LEAD)
        elif began is not None:
            spans.append(TimeSpan(began, at))
            began = None
    return spans


def total_of(lines: Iterable[AvailabilityLine]) -> dict[WaitedFor, int]:
    """The minutes of many connections together."""
    total = dict.fromkeys(WaitedFor, 0)
    for line in lines:
        for waiting, minutes in line.minutes.items():
            total[waiting] += minutes
    return total


def _waiting(history: History, troubles: Troubles, at: datetime) -> WaitedFor:
    health = _value(history.health, at)
    if health == "healthy":
        return _while_healthy(history, troubles, at)
    if _was_over_unseen(history, troubles, at):
        return WaitedFor.unknown
    return _trouble(history, troubles, at)


def _trouble(history: History, troubles: Troubles, at: datetime) -> WaitedFor:
    health = _value(history.health, at)
    if health == "reauthorization_required":
        return WaitedFor.customer_login
    if health == "inactive":  # too few credits, which are the operator's
        return WaitedFor.us
    if _covered(troubles.ours, at) and health == "unknown":
        return WaitedFor.us
    if _covered(troubles.apps.get(history.app, ()), at):
        return WaitedFor.makini
    if _covered(troubles.removed.get(history.app, ()), at):
        return WaitedFor.unknown
    # Whose fault a connection is degraded is not known: of a sync that fails Makini's contract says
    # no more than `error`, and what is slow or flaps may do so on either side of Makini.
    return WaitedFor.customer_system if health == "unreachable" else WaitedFor.unknown


def _was_over_unseen(history: History, troubles: Troubles, at: datetime) -> bool:
    """Whether it was found to be over once somebody looked again: since when, nobody knows."""
    over = next((turn.at for turn in history.health if turn.at > at), None)
    return over is not None and any(
        span.covers(at) and span.until <= over < span.until + LEAD
        for span in troubles.unseen(history.app)
    )


def _while_healthy(history: History, troubles: Troubles, at: datetime) -> WaitedFor:
    if _covered(troubles.products.get(history.app, ()), at):
        return WaitedFor.product
    is_seen = not _covered(troubles.unseen(history.app), at)
    return WaitedFor.healthy if is_seen else WaitedFor.unknown


def _cuts(history: History, troubles: Troubles, month: TimeSpan) -> set[datetime]:
    spans = (
        *troubles.ours,
        *troubles.unseen(history.app),
        *troubles.apps.get(history.app, ()),
        *troubles.products.get(history.app, ()),
    )
    moments = {turn.at for turn in (*history.setup, *history.health)}
    moments |= {moment for span in spans for moment in (span.since, span.until)}
    return {month.since, month.until} | {each for each in moments if month.covers(each)}


def _value(turns: Sequence[Turn], at: datetime) -> str:
    value = "unknown"
    for turn in turns:
        if turn.at > at:
            break
        value = turn.value
    return value


def _covered(spans: Iterable[TimeSpan], at: datetime) -> bool:
    return any(span.covers(at) for span in spans)
