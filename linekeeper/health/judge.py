"""What one more observation makes of a connection's health. Pure and total; times are UTC.

`judge` is the one place where health is decided (DESIGN "Two axes"). What Makini's list says and
what the connection itself answers are kept apart: the list can cap an answer (`Inactive`, a status
nobody knows), but an entry in the list never outshines a probe that failed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from statistics import median
from typing import Any

from msgspec.structs import replace

from linekeeper.config import HealthPolicy
from linekeeper.health.evidence import (
    CACHED,
    CALLS,
    FALLEN,
    TOKEN_REFUSED,
    Evidence,
    Health,
    Judged,
    Observation,
    Outcome,
    contradicts,
    is_late,
)
from linekeeper.health.makinis_word import (
    awaits_call,
    claimed,
    doubted,
    is_lost_for_good,
    is_unanswered,
    is_unsynced,
    noted,
    raises_doubt,
    without_token,
)
from linekeeper.health.synchronized import is_stale, lasting_cause


@dataclass(frozen=True, slots=True)
class Judgement:
    """The judgement after an observation; `applied` is False for one that came too late.

    `doubts`: it came too late to decide, yet a read has to settle what it says.
    `awaits_call`: it decides nothing before a call is answered.
    """

    judged: Judged
    applied: bool
    doubts: bool = False
    awaits_call: bool = False


def judge(previous: Judged, observation: Observation, policy: HealthPolicy) -> Judgement:
    """Return what `observation` makes of `previous`.

    An observation older than the one last applied changes nothing, but that a lost login which
    only a cached word has followed is doubted. A connection is never healthy on a status nobody
    knows.
    """
    if is_late(observation, previous):
        if not raises_doubt(observation, previous):
            return Judgement(previous, applied=False)
        return Judgement(doubted(previous, observation), applied=True, doubts=True)
    if observation.is_good_event and awaits_call(previous, observation):
        return Judgement(noted(previous, observation), applied=True, awaits_call=True)
    if observation.outcome is Outcome.listed:
        return _listed(previous, observation, policy)
    # A sync of what doesn't work fails because of that: it does not say that anything is answered.
    fails = observation.is_good_event and observation.outcome is Outcome.sync_failing
    broken = previous.disputed or previous.own in FALLEN - {Health.unknown}
    state = previous if fails and broken else _seen(previous, observation, policy)
    remembered = _remembered(previous, state, observation, policy)
    dated = observation.outcome is not Outcome.doubted
    judged = _concluded(previous, state, observation, policy, remembered, dated=dated)
    return Judgement(judged, applied=True)


def _listed(previous: Judged, observation: Observation, policy: HealthPolicy) -> Judgement:
    word = observation.lifecycle or "unknown"
    previous = claimed(previous) if observation.decisive else previous
    connected_at = observation.connected_at or previous.connected_at
    state = replace(previous, lifecycle=word, connected_at=connected_at)
    if observation.decisive:
        said = previous, observation, policy
        disputed = contradicts(*said) or is_unanswered(*said)
        own = Health.healthy if word == "active" and not disputed else Health.unknown
        if not disputed and is_unsynced(previous, observation):
            own = previous.own
        if disputed and is_lost_for_good(previous, observation):
            own = _LOST
        state = replace(state, own=own, latencies=(), disputed=disputed, evidence=Evidence.listed)
        state = state if disputed else _agreed(state, misses=0)
    elif word == previous.lifecycle:
        # Nothing new, and no news of the login: later events keep their place in time.
        return Judgement(_concluded(previous, previous, observation, policy, dated=False), True)
    return Judgement(_concluded(previous, state, observation, policy), applied=True)


def _seen(previous: Judged, observation: Observation, policy: HealthPolicy) -> Judged:
    previous = replace(previous, unknown_by=TOKEN_REFUSED if observation.unrenewed else "")
    if contradicts(previous, observation, policy):
        # Unsettled: a read would have come in place of this word.
        own = Health.unknown if observation.unread else previous.own
        return replace(previous, own=own, misses=0, disputed=observation.unread)
    match observation.outcome:
        case Outcome.missed | Outcome.unclear:
            misses = previous.misses + 1
            gone = misses >= policy.misses_unreachable
            lost = previous.own is Health.reauthorization_required
            away = observation.outcome is Outcome.missed
            after = Health.unreachable if away else Health.unknown
            own = after if gone and not lost else previous.own
            return replace(previous, own=own, misses=misses)
        case Outcome.login_lost:
            return _lost(previous, observation)
        case Outcome.doubted:
            return _doubted(previous, observation, policy)
        case Outcome.refused | Outcome.strange:
            refused = observation.outcome is Outcome.refused
            own = Health.inactive if refused else Health.unknown
            return replace(previous, own=own, misses=0, disputed=False)
        case _:
            return _answered(previous, observation, policy)


def _lost(previous: Judged, observation: Observation) -> Judged:
    # Once Makini's status agrees, its next word is no longer behind what we know.
    by = "" if observation.source == "probe" else observation.source
    return _agreed(
        previous,
        own=Health.reauthorization_required,
        misses=0,
        latencies=(),
        lost_by=by,
        lost_at=observation.at if by else None,
    )


def _doubted(previous: Judged, observation: Observation, policy: HealthPolicy) -> Judged:
    """A refused call. One may have had an old token; several in a row are evidence."""
    if observation.source in CALLS:
        # Our own token is refused, and that proves no lost login: nothing here may renew it, or
        # Makini's list lacks the connection. Where Makini says that it doesn't know it at all,
        # nobody is asked to log in for what an event alone said before.
        lost = previous.own is Health.reauthorization_required
        lost = lost and not (observation.unknown_there and previous.lost_by)
        return previous if lost else replace(previous, own=Health.unknown, misses=0)
    before = previous.refused_at
    apart = timedelta(minutes=policy.failing_minutes)
    in_a_row = before is not None and abs(observation.at - before) <= apart
    state = replace(
        previous,
        refusals=previous.refusals + 1 if in_a_row else 1,
        refused_at=max(before, observation.at) if before is not None else observation.at,
    )
    if not observation.unread or state.refusals < policy.failing_calls:
        return state
    if state.own is Health.reauthorization_required:
        return state
    return replace(state, own=Health.unknown, disputed=True)


def _agreed(state: Judged, *, is_answered: bool = False, **also: Any) -> Judged:
    """Nothing contradicts the present word any more; `also` is what else it changes, `is_answered`
    says that the product's refused calls are answered for as well."""
    known: dict[str, Any] = {"lost_by": "", "lost_at": None, "disputed": False}
    if is_answered or state.disputed:
        known |= {"refusals": 0, "refused_at": None}
    return replace(state, **known | also)


def _remembered(
    previous: Judged, state: Judged, observation: Observation, policy: HealthPolicy
) -> dict[str, Any]:
    """How strong the evidence is now, and when it was got: what changes of `state` by that."""
    at, source = observation.at, observation.source
    reads = [moment for moment in (state.read_at, observation.read_at) if moment is not None]
    read_at = max(reads, default=None)
    good = observation.outcome in (Outcome.answered, Outcome.sync_failing)
    known: dict[str, Any] = {"read_at": read_at}
    if observation.sync_status is not None:
        fails = observation.sync_status == "fail" and state.own is not _LOST
        known["failing_since"] = (state.failing_since or at) if fails else None
    if state.synced_at is None and observation.sync_status == "inprogress":
        known["syncing_since"] = state.syncing_since or at
    elif state.synced_at is None and observation.sync_status in _SYNCED:
        known["synced_at"] = at
    # The status that a new login is asked for, whatever it says.
    logged_in = source == "reconnect" and observation.sync_status is not None
    found = source == "read" and good and previous.own is _LOST
    if observation.outcome is Outcome.login_restored or logged_in or observation.is_back or found:
        known["restored_at"] = max(state.restored_at or at, at)
    if source not in CACHED and observation.outcome is not Outcome.doubted:
        known["stated_at"] = max(state.stated_at or at, at)
    if source == "read":
        known |= {"tried_at": at, "read_at": at if good else read_at, "evidence": Evidence.read}
    elif source in ("probe", "reconnect") and observation.outcome not in _SAYS_NOTHING:
        lasting = timedelta(hours=policy.evidence_hours)
        is_recent = good and read_at is not None and at - read_at <= lasting
        known["evidence"] = Evidence.read if is_recent else Evidence.probed
    return known


_SYNCED, _LOST = ("done", "fulldone"), Health.reauthorization_required
_SAYS_NOTHING = frozenset({Outcome.doubted, Outcome.missed, Outcome.unclear})
"""Outcomes of a status call after which the evidence is what it was."""


def _answered(previous: Judged, observation: Observation, policy: HealthPolicy) -> Judged:
    latencies = previous.latencies
    if observation.latency is not None:
        latencies = (*latencies, observation.latency)[-policy.slow_samples :]
    slow = len(latencies) == policy.slow_samples and median(latencies) > policy.slow_seconds
    stale = is_stale(observation, policy)
    failing = observation.outcome is Outcome.sync_failing
    own = Health.degraded if slow or stale or failing else Health.healthy
    causes = {"sync_failing": failing, "sync_stale": stale, "slow": slow}
    cause = next((cause for cause, holds in causes.items() if holds), "")
    if own is Health.healthy and (lasting := lasting_cause(previous, observation)):
        own, cause = Health.degraded, lasting
    return _agreed(
        previous,
        is_answered=observation.source not in CACHED,  # a cached word answers for no call
        own=own,
        misses=0,
        latencies=latencies,
        degraded_by=cause,
    )


def _concluded(
    previous: Judged,
    state: Judged,
    observation: Observation,
    policy: HealthPolicy,
    remembered: Mapping[str, Any] | None = None,
    *,
    dated: bool = True,
) -> Judged:
    """`state` as it is held from now on, with what is `remembered` beside the health."""
    at = observation.at
    if previous.token_missing_since:
        state = without_token(previous, state, observation)
    window = timedelta(minutes=policy.flap_window_minutes)
    health = _capped(state.own, state.lifecycle)
    in_trouble = health not in (Health.healthy, Health.degraded) or state.misses > 0
    trouble_at = at if in_trouble else state.trouble_at
    falls = tuple(fall for fall in state.falls if timedelta() <= at - fall < window)
    stood = previous.health is Health.healthy or (
        previous.health is Health.degraded and previous.own is Health.healthy
    )
    if stood and health in FALLEN:
        falls = (*falls, at)
    # Falls leave the window while it is kept waiting, so the waiting itself is remembered too.
    flapping = len(falls) >= policy.flap_falls or (
        previous.health is Health.degraded and len(state.falls) >= policy.flap_falls
    )
    if flapping and health is Health.healthy:
        quiet_since = trouble_at or at
        if at - quiet_since < timedelta(minutes=policy.flap_quiet_minutes):
            health = Health.degraded
            state = replace(state, degraded_by="flapping")
            falls = state.falls or falls
        else:
            falls = ()
    # What leaves a lost login as it is says nothing of it, so no event is older than that.
    dated = dated and (state.own is not _LOST or observation.outcome is Outcome.login_lost)
    is_answer = observation.sync_status is not None or observation.source == "read"
    denied_at = at if observation.unknown_there else None if is_answer else state.denied_at
    return replace(
        state,
        **(remembered or {}),
        denied_at=denied_at,
        denied_since=(state.denied_since or denied_at) if denied_at else None,
        health=health,
        degraded_by=state.degraded_by if health is Health.degraded else "",
        unknown_by=state.unknown_by if health is Health.unknown else "",
        observed_at=at if dated else previous.observed_at,
        falls=falls,
        trouble_at=trouble_at,
    )


def _capped(own: Health, lifecycle: str) -> Health:
    if lifecycle == "inactive":
        return Health.inactive
    if lifecycle in ("unknown", "pending") and own in (Health.healthy, Health.degraded):
        return Health.unknown
    return own


def has_read_all(before: Judged, after: Judged) -> bool:
    """Whether the status says for the first time that Makini's first sync is over."""
    was_syncing = before.syncing_since is not None and before.synced_at is None
    return was_syncing and after.synced_at is not None


def is_trouble(setup: str, health: str, *, answered: bool) -> bool:
    """Whether a connection in this state needs an incident.

    Nothing is wrong yet with one that isn't set up or that never answered (`answered`),
    nor any more with one that was disconnected.
    """
    if setup not in ("authorizing", "syncing", "live") or health == Health.healthy:
        return False
    return health != Health.unknown or (setup == "live" and answered)


CLOCK_SLACK = timedelta(minutes=1)
"""Clocks of two processes may differ by so much."""
_SAID_AT = (
    "lost_at", "stated_at", "restored_at", "refused_at", "read_at", "tried_at", "asked_at",
    "failing_since", "syncing_since", "synced_at", "token_missing_since",
)  # fmt: skip
_UNSAID = ("observed_at", "trouble_at", "replied_at", "denied_at", "denied_since")
"""What is not known any more: whether it was before or after something else decides too much."""
_DATES = (*_SAID_AT, *_UNSAID)
_dates_of = attrgetter(*_DATES)


def without_future(judged: Judged, now: datetime) -> Judged:
    """`judged` as it may be believed at `now`, where a clock that was ahead has dated it.

    Evidence that is dated later than now was there by now. Else whatever is learned counts as
    older, and changes nothing until the wrong time has come.
    """
    latest = now + CLOCK_SLACK
    times = *_dates_of(judged), *judged.falls
    if all(at is None or at <= latest for at in times):
        return judged
    put_right: dict[str, Any] = {
        name: now if name in _SAID_AT else None
        for name, at in zip(_DATES, times, strict=False)
        if at is not None and at > latest
    }
    return replace(judged, falls=tuple(at for at in judged.falls if at <= latest), **put_right)


def dated(observation: Observation, now: datetime) -> Observation:
    """`observation` as it is written down `now`: nothing was learned later than that. Pure.

    A clock that was ahead when it was made may have been set right meanwhile.
    """
    return replace(observation, at=now) if observation.at > now + CLOCK_SLACK else observation
