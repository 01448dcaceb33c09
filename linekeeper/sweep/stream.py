"""When something is wrong with the stream of webhooks itself (MISSION W7). Pure; times are UTC.

What is seen of one app (`Stream`) gives findings; each is an incident of its own, open as long as
it is found.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from linekeeper.inbox.verify import Cause
from linekeeper.outbox.forward import OVERDUE_SECONDS, REFUSED_SECONDS
from linekeeper.reconcile.causes import Window, overlap
from linekeeper.sweep.forward_words import resolved_words, untaken_words
from linekeeper.sweep.refusals import refused_words
from linekeeper.text import closed, counted, shown

SETTLED_WITHIN = timedelta(minutes=5)
"""What was settled so lately says whether webhooks are applied in time."""


@dataclass(frozen=True, slots=True)
class StreamThresholds:
    """The thresholds from which on something is wrong. Shares are of 1."""

    failing_share: float = 0.05
    """Those that are failing, to be tried again, as a share of the last hour's events."""
    failing_least: int = 5
    forged_least: int = 20
    """Deliveries turned away for their signature in ten minutes."""
    forged_over: int = 5
    """A burst is over below that many."""
    refused_in_a_row: int = 10
    """Deliveries turned away with none accepted since: an account with few webhooks, too."""
    oldest_seconds: float = 300.0
    """Age of the oldest event nobody has tried yet."""
    lag_seconds: float = 300.0
    """The time from receipt to settled, of the slowest twentieth that was settled lately."""
    depth: int = 100_000
    forward_oldest_seconds: float = OVERDUE_SECONDS
    forward_refused_seconds: float = REFUSED_SECONDS
    silent_times: float = 2.0
    """Longer than its longest silence in two weeks, that many times over."""
    silent_least_hours: float = 6.0
    silent_app_least_hours: float = 3.0
    habit_least_hours: int = 24
    """Hours with events it takes to speak of a habit."""


@dataclass(frozen=True, slots=True)
class Habit:
    """How regularly webhooks came in the last two weeks, from one connection or a whole app."""

    name: str
    last_at: datetime
    hours: int
    """Hours in which any came."""
    longest_gap: int
    """Hours between two of those, at most; those in which no receiver of ours lived left out."""
    excused: timedelta = timedelta()
    """How much of the time since `last_at` there was in which none could have come."""

    def silence(self, now: datetime) -> timedelta:
        """For how long none has come that could have."""
        return now - self.last_at - self.excused


@dataclass(frozen=True, slots=True)
class Stream:
    """What is seen of one app's webhooks."""

    app: str
    standstills: Sequence[Window] = ()
    """When nothing of ours ran, which is said in other words than what waited meanwhile."""
    pending: int = 0
    """Waiting for their first attempt."""
    oldest_at: datetime | None = None
    """Receipt of the first of them that waits for no other of its connection."""
    failing: int = 0
    """Tried in vain, to be tried again."""
    last_hour: int = 0
    """Events received in it."""
    dead: int = 0
    """The dead events among all that are kept and were not replayed."""
    unreadable: int = 0
    """Those of them whose body says nothing: to replay them changes nothing."""
    unreadable_lately: int = 0
    """Those of these that came in the last day."""
    unrouted: int = 0
    """Events unrouted in the last day for longer than it takes to look again."""
    unrouted_to: str = ""
    """One of the connections that they name; empty: they name none."""
    refusals: Mapping[Cause, int] = field(default_factory=dict)
    """Turned away as not genuine in the last ten minutes, by why."""
    refusals_in_a_row: Mapping[Cause, int] = field(default_factory=dict)
    """Turned away lately with none accepted since, by why."""
    lag_seconds: float = 0.0
    forward_dead: int = 0
    forward_dead_error: str = ""
    forward_lost: int = 0
    """Messages that ended in the last day because what they are about is no longer kept."""
    forward_untaken: bool = False
    """Whether the product took nothing since messages for it were given up."""
    forward_waiting: int = 0
    forward_oldest_at: datetime | None = None
    forward_error: str = ""
    """The error of the messages that wait; not of those behind one that is refused."""
    refused: int = 0
    """Messages that the product answers with "not this", tried several times."""
    refused_at: datetime | None = None
    """When the first of them was to be handed on."""
    refused_error: str = ""
    forward_gone: str = ""
    """The product says that its address is no more, in these words."""
    habit: Habit | None = None
    quiet: Sequence[Habit] = ()
    """Connections from which nothing came for hours."""

    def waiting(self, since: datetime | None, now: datetime) -> float:
        """For how many seconds something has waited since then while anything of ours ran."""
        if since is None:
            return 0.0
        wait = Window(since, now)
        ours = sum((overlap(window, wait) for window in self.standstills), timedelta())
        return (wait.length - ours).total_seconds()

    @property
    def forged(self) -> int:
        return sum(self.refusals.values())

    @property
    def refused_in_a_row(self) -> int:
        return sum(self.refusals_in_a_row.values())


@dataclass(frozen=True, slots=True)
class StreamTrouble:
    """One thing that is wrong with an app's webhooks."""

    app: str
    kind: str
    """The kind of trouble, which is the incident's as well."""
    figure: float
    """How bad it is, to compare with later."""
    text: str
    """What is wrong, in a sentence; then what there is to say or to look at."""
    resolved: str
    """What is said once it is over."""
    measure: str = ""
    """What the figure counts, where it is not the same for all of its kind."""

    @property
    def heading(self) -> str:
        """What is wrong, alone."""
        return self.text.partition(". ")[0]


NAMES_SHOWN = 10


def examine(
    stream: Stream, *, policy: StreamThresholds, now: datetime, open_kinds: Collection[str] = ()
) -> list[StreamTrouble]:
    """What is wrong with `stream`. What is in `open_kinds` already is over only well below."""
    troubles = (
        _failing(stream, policy), _dead(stream), _unrouted(stream),
        _forged(stream, policy, "webhooks_forged" in open_kinds),
        _webhooks_overdue(stream, policy, now), _silent(stream, policy, now),
        _forward_dead(stream), _forward_refused(stream, policy, now),
        _forward_overdue(stream, policy, now, "forward_behind" in open_kinds),
    )  # fmt: skip
    app, lost = stream.app, stream.forward_lost
    return [
        StreamTrouble(app, kind, figure, closed(text), resolved_words(kind, lost), measure)
        for kind, figure, text, measure in filter(None, troubles)
    ]


class _Trouble(NamedTuple):
    kind: str
    figure: float
    text: str
    measure: str = ""


def _unrouted(stream: Stream) -> _Trouble | None:
    if not stream.unrouted:
        return None
    none = ", and names none" if stream.unrouted == 1 else ", and name none"
    named = f", such as {shown(stream.unrouted_to)}" if stream.unrouted_to else none
    text = (
        f"{counted(stream.unrouted, 'webhook')} of no connection that is known{named}. "
        "This incident ends a day after the last one, found or not."
    )
    return _Trouble("webhooks_unrouted", stream.unrouted, text)


def _waiting(number: int, noun: str) -> str:
    return f"{counted(number, noun)} waiting"


def _dead(stream: Stream) -> _Trouble | None:
    """Those that a replay can fix, and for a day those that nothing fixes: people are to know."""
    replayable, unreadable = stream.dead - stream.unreadable, stream.unreadable_lately
    said = []
    if replayable:
        said.append(counted(replayable, "dead webhook"))
    if unreadable:
        said.append(f"{counted(unreadable, 'dead webhook')} with a body that cannot be read")
    if not said:
        return None
    text = f"{' and '.join(said)}. The artifact webhooks says why."
    if unreadable:
        text += (
            " A replay does not help where the body cannot be read: show Makini what is said of "
            "it. This incident ends a day after the last one."
        )
    return _Trouble("webhooks_dead", replayable + unreadable, text)


def _failing(stream: Stream, policy: StreamThresholds) -> _Trouble | None:
    bad, every = stream.failing, stream.last_hour
    if bad < policy.failing_least or bad < policy.failing_share * max(every, 1):
        return None
    text = f"{bad:,} webhooks failing, to be tried again ({every:,} came in the last hour)"
    return _Trouble("webhooks_failing", bad, text)


def _forged(stream: Stream, policy: StreamThresholds, known: bool) -> _Trouble | None:
    if stream.refused_in_a_row >= policy.refused_in_a_row:
        text = refused_words(stream.refusals_in_a_row, " in a row", ", and none was accepted since")
        return _Trouble("webhooks_forged", max(stream.forged, stream.refused_in_a_row), text)
    if stream.forged < (policy.forged_over if known else policy.forged_least):
        return None
    return _Trouble(
        "webhooks_forged", stream.forged, refused_words(stream.refusals, " in ten minutes", "")
    )


def _webhooks_overdue(stream: Stream, policy: StreamThresholds, now: datetime) -> _Trouble | None:
    age = (now - stream.oldest_at).total_seconds() if stream.oldest_at else 0.0
    if stream.waiting(stream.oldest_at, now) >= policy.oldest_seconds:
        text = (
            f"{_waiting(stream.pending, 'webhook')}, the oldest for {_long(age)}. Check that a "
            "consumer runs."
        )
        return _Trouble("webhooks_behind", age, text)
    if stream.pending >= policy.depth:
        return _Trouble("webhooks_behind", age, _waiting(stream.pending, "webhook"))
    if stream.lag_seconds >= policy.lag_seconds:
        lately = f"in the last {_long(SETTLED_WITHIN.total_seconds())}"
        text = f"webhooks applied {_long(stream.lag_seconds)} after they came, {lately}"
        return _Trouble("webhooks_behind", stream.lag_seconds, text)
    return None


def _silent(stream: Stream, policy: StreamThresholds, now: datetime) -> _Trouble | None:
    habit = stream.habit
    if habit is not None and _is_silent(habit, policy, policy.silent_app_least_hours, now):
        hours = habit.silence(now).total_seconds() / 3600
        text = (
            f"no webhook of any connection for {_long(3600 * hours)} (longest silence before: "
            f"{habit.longest_gap} h). Is the URL still set at Makini?"
        )
        return _Trouble("webhooks_silent", hours, text, "hours")
    silent = [
        connection
        for connection in stream.quiet
        if _is_silent(connection, policy, policy.silent_least_hours, now)
    ]
    if not silent:
        return None
    names = ", ".join(connection.name for connection in silent[:NAMES_SHOWN])
    and_more = f" and {len(silent) - NAMES_SHOWN} more" if len(silent) > NAMES_SHOWN else ""
    text = f"no webhook for much longer than usual from {names}{and_more}"
    return _Trouble("webhooks_silent", len(silent), text, "connections")


def _forward_dead(stream: Stream) -> _Trouble | None:
    text = untaken_words(stream.forward_dead, stream.forward_dead_error, stream.forward_lost)
    if not text:
        return None
    return _Trouble("forward_dead", stream.forward_dead + stream.forward_lost, text)


def _forward_refused(stream: Stream, policy: StreamThresholds, now: datetime) -> _Trouble | None:
    if stream.forward_gone:
        text = (
            f"the product's address reported as gone ({stream.forward_gone}). "
            f"{_waiting(stream.forward_waiting, 'message')}, and one is tried every 10 min, to "
            "see. Correct or empty Forward URL in the MakiniApp block."
        )
        return _Trouble("forward_refused", stream.forward_waiting, text, "address")
    if stream.refused_at is None or (now - stream.refused_at).total_seconds() < (
        policy.forward_refused_seconds
    ):
        return None
    what = counted(stream.refused, "message")
    text = (
        f"{what} refused by the product ({stream.refused_error}). What follows on the same "
        "connection waits, for three days at most. Fix the product, or let it answer 2xx to that "
        "id to go on without it."
    )
    return _Trouble("forward_refused", stream.refused, text)


def _forward_overdue(
    stream: Stream, policy: StreamThresholds, now: datetime, known: bool
) -> _Trouble | None:
    if known and stream.forward_untaken and not stream.forward_waiting:
        text = (
            f"the product took nothing ({stream.forward_dead_error}); whether it does by now is "
            "known once there is a message to hand on"
        )
        return _Trouble("forward_behind", 0.0, text)
    age = (now - stream.forward_oldest_at).total_seconds() if stream.forward_oldest_at else 0.0
    waited = stream.waiting(stream.forward_oldest_at, now)
    if waited < policy.forward_oldest_seconds or stream.forward_gone:
        return None
    why = stream.forward_error or "none of them was tried, check that a consumer runs"
    text = (
        f"{_waiting(stream.forward_waiting, 'message')} for the product, the oldest for "
        f"{_long(age)}: {why}"
    )
    return _Trouble("forward_behind", age, text)


def _is_silent(habit: Habit, policy: StreamThresholds, least: float, now: datetime) -> bool:
    if habit.hours < policy.habit_least_hours:
        return False
    longest = max(habit.longest_gap * policy.silent_times, least)
    return habit.silence(now) >= timedelta(hours=longest)


def _long(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
