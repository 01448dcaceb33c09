"""Which parts are silent and which work is overdue. Pure; times are the database's clock.

A part is silent once it has not reported for `WatchPolicy.after`, whatever the reason: it was
killed, it hangs, or it reaches the database no more. Silence counts from when somebody watched: a
machine that was switched off finds nothing wrong at its start, nor one that slept when it wakes.
What was found once is over only when its end is seen, not because those who watch were started
anew, or nobody can say.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from linekeeper.watch.work import WORK

WATCHERS = ("consumer", "receiver")
"""Kinds of part that watch the others all the time; every sweep does too."""
WORKERS = "worker"
PREFECT = "prefect"
PAUSE = "pause"
SWEEPING = "sweeping"
"""A sweep is under way; its last sign is when a connection was last checked."""
AWAKE = "awake"
"""A watcher woke up, and found that no other had watched meanwhile: the machine had been asleep."""

ENDED = "ended"
"""A watcher ended in good order: `host` says of which kind, and `at` when the last one did."""

QUIET_AFTER = timedelta(minutes=2)
_EFFECT: Mapping[str, str] = {
    "consumer": "Without one no webhooks are applied and only the receiver delivers messages",
    "receiver": "Without one no webhooks are stored and no customer is answered",
    "worker": "Without one no runs start",
}
FORGET_AFTER = timedelta(hours=24)
"""One of several parts of a kind that is silent for so long was taken away for good."""


@dataclass(frozen=True, slots=True)
class WatchPolicy:
    """The thresholds from which on silence is trouble, and what is expected at all."""

    after: timedelta
    has_apps: bool = True
    """Whether there is a Makini app: without one there is nothing to sweep or reconcile."""
    needed: Collection[str] = ()
    """Kinds of part that are missed as soon as nobody can say that they work: work waits for them
    for too long already."""

    def of_kind(self, kind: str) -> "WatchPolicy":
        """The thresholds that hold for a kind of part."""
        return replace(self, after=quiet_after(self)) if kind in self.needed else self


@dataclass(frozen=True, slots=True)
class Part:
    """The last sign of life of one part (table `part_heartbeat`)."""

    name: str
    kind: str
    host: str
    since: datetime
    at: datetime
    mark: str = ""
    """The address at which a receiver answers."""
    process_id: int | None = None
    """Which process of `host` it is."""


@dataclass(frozen=True, slots=True)
class PartTrouble:
    """One part that is silent, or work that is overdue."""

    kind: str
    cause: str
    since: datetime
    title: str
    text: str
    resolved: str
    missing: str = ""
    """The kind of part of which none works, where that is what is wrong."""


@dataclass(frozen=True, slots=True)
class WatchFindings:
    """What the heartbeats say."""

    troubles: Sequence[PartTrouble]
    silent: Collection[str]
    """Names of the parts that are silent and not replaced."""
    forgotten: Collection[str]
    """Names of the parts whose rows may go: replaced by newer ones, or gone for good."""


def quiet_after(policy: WatchPolicy) -> timedelta:
    """For how long a part says nothing until nobody can say that it works. Pure."""
    return min(QUIET_AFTER, policy.after)


def is_quiet(part: Part, policy: WatchPolicy, *, now: datetime) -> bool:
    """Whether `part` has not reported for so long that nobody can say that it works. Pure.

    Each says that it lives every few seconds; people are notified only after `policy.after`.
    """
    return now - part.at >= quiet_after(policy)


def examine(
    parts: Iterable[Part],
    policy: WatchPolicy,
    *,
    now: datetime,
    known: Mapping[str, datetime] = MappingProxyType({}),
) -> WatchFindings:
    """What is wrong at `now`; `known` is the `PartTrouble.since` of each cause that is open."""
    parts = list(parts)
    watching = watching_since(parts, policy, now=now)
    troubles: list[PartTrouble] = []
    silent: list[str] = []
    forgotten: list[str] = []
    prefect = next((part for part in parts if part.kind == PREFECT), None)
    for kind in (*WATCHERS, WORKERS):
        of_kind = [part for part in parts if part.kind == kind]
        cause = "pool" if kind == WORKERS else f"kind:{kind}"
        at, since, policy_of_kind = now, watching, policy.of_kind(kind)
        if kind == WORKERS:
            if prefect is None or now - prefect.at >= policy.after:
                # Whoever asks Prefect about workers is away: nothing new is known of them.
                if cause in known:
                    troubles.append(_no_worker(known[cause], of_kind))
                unsure = (
                    "whether others of its kind work is not known while Prefect does not answer"
                )
                troubles += [
                    _silent_part(part, unsure) for part in of_kind if _cause(part) in known
                ]
                continue
            at, since = prefect.at, max(prefect.since, watching)
        lost, gone = _lost(of_kind, policy_of_kind, since=since, now=at, known=known)
        since = known.get(cause, since)
        forgotten += gone
        silent += [part.name for part in lost]
        after = policy_of_kind.after
        living = [part for part in of_kind if at - part.at < after]
        ended = (part for part in parts if part.kind == ENDED and part.host == kind)
        last = max([since, *(part.at for part in (*of_kind, *ended))])
        is_empty = not living and (cause in known or at - last >= after)
        if kind == WORKERS and is_empty:
            troubles.append(_no_worker(since, of_kind))
        else:
            others = _others(living, policy, now=at)
            missing = "" if living else kind
            troubles += [replace(_silent_part(part, others), missing=missing) for part in lost]
        if kind in WATCHERS and is_empty and not lost:
            troubles.append(_none_of_kind(kind, last))
    if prefect is not None and now - prefect.at >= policy.after:
        asked = watching_since(parts, policy, now=now, kinds=("consumer",))
        until = max((part.at for part in parts if part.kind == "consumer"), default=asked)
        if _cause(prefect) in known or until - max(asked, prefect.at) >= policy.after:
            silent.append(prefect.name)
            troubles.append(_prefect(prefect))
    troubles += _overdue(parts, policy, watching, now, known)
    return WatchFindings(troubles, frozenset(silent), frozenset(forgotten))


def watching_since(
    parts: Iterable[Part],
    policy: WatchPolicy,
    *,
    now: datetime,
    kinds: Collection[str] = WATCHERS,
) -> datetime:
    """Since when one of the parts of `kinds` that live now has watched; `now` if none does."""
    parts = list(parts)
    began = min(
        (part.since for part in parts if part.kind in kinds and now - part.at < policy.after),
        default=now,
    )
    return max([began, *(part.at for part in parts if part.kind == AWAKE and part.at <= now)])


def _cause(part: Part) -> str:
    return f"part:{part.name}"


def _lost(
    parts: Sequence[Part],
    policy: WatchPolicy,
    *,
    since: datetime,
    now: datetime,
    known: Collection[str],
) -> tuple[list[Part], list[str]]:
    """The parts of one kind that are silent; the names of those that are gone for good.

    One that started after another fell silent takes its place: a restart, or a new machine. So
    did one that fell silent since, if somebody who lives took its place in turn.
    """
    there = sorted(
        (part for part in parts if now - part.at < policy.after), key=lambda part: part.since
    )
    living = bool(there)
    lost: list[Part] = []
    gone: list[str] = []
    silent = (part for part in parts if now - part.at >= policy.after)
    for part in sorted(silent, key=lambda part: part.at, reverse=True):
        successor = next((other for other in there if other.since >= part.at), None)
        if successor is not None:
            there.remove(successor)
            there.append(part)
            gone.append(part.name)
        elif living and now - part.at >= FORGET_AFTER:
            gone.append(part.name)
        elif _cause(part) in known or now - max(part.at, since) >= policy.after:
            lost.append(part)
    return lost[::-1], gone


def restarted(parts: Iterable[Part], policy: WatchPolicy, *, now: datetime) -> frozenset[str]:
    """The parts that are quiet and whose place another took since, on the same host. Pure."""
    at_once = replace(policy, after=quiet_after(policy))
    of_host: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        if part.kind in WATCHERS:
            of_host.setdefault((part.kind, part.host), []).append(part)
    pairs = (_lost(group, at_once, since=now, now=now, known=()) for group in of_host.values())
    return frozenset(name for _, gone in pairs for name in gone)


def _others(living: Sequence[Part], policy: WatchPolicy, *, now: datetime) -> str:
    """What is known of the other parts of a kind, none of which counts as silent yet."""
    quiet = [part for part in living if is_quiet(part, policy, now=now)]
    said = []
    if working := len(living) - len(quiet):
        said.append(f"{working} more of its kind still {'works' if working == 1 else 'work'}")
    if quiet:
        last = max(part.at for part in quiet)
        said.append(
            f"{len(quiet)} more {'has' if len(quiet) == 1 else 'have'} been silent since "
            f"{_clock(last)}"
        )
    return ", ".join(said) or "no other of its kind works"


def _silent_part(part: Part, others: str) -> PartTrouble:
    return PartTrouble(
        "part_silent",
        _cause(part),
        part.at,
        f"No sign of life from the {part.kind} on {part.host or part.name} since {_clock(part.at)}",
        f"Nothing was received from the {part.kind} on {part.host or part.name} since "
        f"{_clock(part.at)}: it was killed, it hangs, or it does not reach the database. "
        f"{_EFFECT[part.kind]}; {others}. Restart it; `linekeeper doctor` shows every part.",
        f"The {part.kind} on {part.host or part.name} works again, or another took its place.",
    )


def _none_of_kind(kind: str, since: datetime) -> PartTrouble:
    return PartTrouble(
        "part_silent",
        f"kind:{kind}",
        since,
        f"No {kind} since {_clock(since)}",
        f"No {kind} has run since {_clock(since)}. {_EFFECT[kind]}. "
        f"Start one: `linekeeper {kind}`; `linekeeper doctor` shows every part.",
        f"A {kind} runs again.",
        missing=kind,
    )


def _no_worker(since: datetime, workers: Sequence[Part]) -> PartTrouble:
    last = max((part.at for part in workers), default=since)
    return PartTrouble(
        "pool_without_worker",
        "pool",
        last,
        f"No worker for the work pool since {_clock(last)}",
        f"No worker has polled the work pool since {_clock(last)}: no sweep, reconcile or form "
        "runs. Webhooks are still applied and messages delivered. Start a worker; `linekeeper "
        "doctor` shows why runs are late.",
        "A worker polls the work pool again.",
        missing=WORKERS,
    )


def _prefect(part: Part) -> PartTrouble:
    return PartTrouble(
        "prefect_silent",
        _cause(part),
        part.at,
        f"No answer from Prefect since {_clock(part.at)}",
        f"The Prefect API has not answered the consumer since {_clock(part.at)}: no run starts, "
        "and changed blocks are not seen. Webhooks are still applied and messages delivered. "
        "Restart the server, or correct PREFECT_API_URL; `linekeeper doctor` says which.",
        "Prefect answers again.",
        missing=PREFECT,
    )


def _overdue(
    parts: Sequence[Part],
    policy: WatchPolicy,
    watching: datetime,
    now: datetime,
    known: Mapping[str, datetime],
) -> list[PartTrouble]:
    by_kind: dict[str, datetime] = {}
    for part in parts:
        by_kind[part.kind] = max(part.at, by_kind.get(part.kind, part.at))
    paused, checked = by_kind.get(PAUSE), by_kind.get(SWEEPING)
    troubles = []
    for kind, work in WORK.items():
        done = by_kind.get(kind)
        if work.of_apps and not policy.has_apps:
            continue
        if done is None and not work.of_apps:
            continue  # it was never asked for
        since = known.get(f"work:{kind}", watching)
        begins = max(done or since, since)
        if work.pauses and paused is not None:
            begins = max(begins, paused)
        if kind == "sweep" and checked is not None:
            begins = max(begins, checked)
        is_known = f"work:{kind}" in known and begins == since
        if not is_known and now - begins < max(policy.after, work.least):
            continue
        troubles.append(_missed(kind, done, begins))
    return troubles


def _missed(kind: str, done: datetime | None, begins: datetime) -> PartTrouble:
    last = f"the last one was completed at {_clock(done)}" if done else "none was completed yet"
    work = WORK[kind]
    called = work.called or f"run of {kind}"
    or_paused = ", is under way, or everything is paused" if work.pauses else ""
    return PartTrouble(
        "work_overdue",
        f"work:{kind}",
        begins,
        f"No {called} completed since {_clock(begins)}",
        f"No {called} was completed since {_clock(begins)} ({last}; runs that ended Skipped do "
        f"not count). {work.effect} {work.next_step}",
        f"A {called} was completed{or_paused}.",
    )


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
