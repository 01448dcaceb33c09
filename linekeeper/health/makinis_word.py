"""What Makini's word is worth that comes late, or is good while calls fail. Pure.

A late word that the login is lost is older than what its connection was last judged by.
That a synchronization ended, well or not, is Makini's word about its own work, and that the status
is good again is what it believes: neither says anything of calls that are not answered, or refused.
The next answered call does.
"""

from datetime import timedelta

from msgspec.structs import replace

from linekeeper.config import HealthPolicy
from linekeeper.health.evidence import (
    CALLS,
    FALLEN,
    GOOD,
    OURS,
    Evidence,
    Health,
    Judged,
    Observation,
    Outcome,
    contradicts,
    cut_alike,
    is_older,
)

UNASKED = timedelta(days=1)
"""A connection that nobody asked for so long is judged by what Makini says of it."""

UNREPEATED = timedelta(days=2)
"""Makini synchronizes at least daily: of one that fails on it speaks again within this time."""

_LOST = Health.reauthorization_required
_OF_TOKEN = (*CALLS, "reconnect", "product")
_SAYS_NOTHING = (Outcome.doubted, Outcome.missed, Outcome.unclear)


def awaits_call(judged: Judged, observation: Observation) -> bool:
    """Whether such a word decides nothing before a call is answered.

    Where nobody calls, or nothing may be read to settle a dispute, it decides at once; but that a
    synchronization ended brings no token where only a login does (`is_lost_for_good`).
    """
    if judged.disputed:
        return judged.own is _LOST and not observation.is_back
    if judged.asked_at is None:
        return judged.evidence is None  # nobody has looked at it yet
    fails = judged.own in FALLEN or judged.misses > 0 or judged.refusals > 0
    return fails and observation.at - judged.asked_at < UNASKED


def noted(judged: Judged, observation: Observation) -> Judged:
    """`judged` with such a word: an older one says nothing after it, and where Makini's status
    still repeats that the login is lost, a read settles it."""
    if not observation.is_back:
        return judged
    at = observation.at
    return replace(
        judged,
        observed_at=max(judged.observed_at or at, at),
        restored_at=max(judged.restored_at or at, at),
        stated_at=max(judged.stated_at or at, at),
    )


def claimed(judged: Judged) -> Judged:
    """`judged`, where a login that a call found lost is a claim that the list does not undo."""
    if judged.own is not _LOST or judged.lost_by:
        return judged
    return replace(judged, lost_by="probe", lost_at=judged.observed_at)


def is_lost_for_good(judged: Judged, observation: Observation) -> bool:
    """Whether a word that the login is lost stands, though the list only goes on saying active.

    No read can settle it, nor will one before somebody logs in: the customer is asked for that.
    """
    is_known_there = observation.needs_login and not observation.unknown_there
    return is_known_there and bool(judged.lost_by)


def is_unsynced(judged: Judged, observation: Observation) -> bool:
    """Whether the list only goes on saying active of a connection of which Makini's own event said
    that a synchronization failed.

    The list speaks of the connection, not of its synchronizations: another event does. That it
    says active anew, or that the customer connected it since, is news.
    """
    said, connected = judged.stated_at, observation.connected_at
    if observation.lifecycle != "active" or judged.degraded_by != "sync_failing" or said is None:
        return False
    is_connected_since = connected is not None and connected > said
    is_repeated = judged.lifecycle in ("", "active") and not is_connected_since
    return is_repeated and observation.at - said < UNREPEATED


def is_unanswered(judged: Judged, observation: Observation, policy: HealthPolicy) -> bool:
    """Whether the list only goes on saying active of a connection whose calls failed while it had
    a token. That it says so anew, or that the customer connected it since, is news."""
    if observation.lifecycle != "active" or judged.misses < policy.misses_unreachable:
        return False
    asked, connected = judged.asked_at, observation.connected_at
    is_connected_since = asked is not None and connected is not None and connected > asked
    return judged.lifecycle in ("", "active") and not is_connected_since


def without_evidence(observation: Observation) -> Observation:
    """What `observation` says of a connection that Makini's list lacks.

    Makini refuses the token of a connection that is gone as it refuses a lost login, so a refused
    call proves neither; a status that was answered, and Makini's own event, prove what they say.
    """
    is_refused_call = observation.source in CALLS and observation.sync_status is None
    if observation.outcome is not Outcome.login_lost or not is_refused_call:
        return observation
    return replace(
        observation,
        outcome=Outcome.doubted,
        message="Makini refuses the token, and its list lacks the connection: the connection is "
        "gone there, or its login is lost. The next complete list decides.",
    )


def wants_read(judged: Judged, observation: Observation, policy: HealthPolicy) -> bool:
    """Whether a read has to settle what this status of a probe leaves open.

    A lost login is not taken for found again by a cached word alone: that of a connection which
    Makini has switched off is as good as ever.
    """
    if contradicts(judged, observation, policy):
        return True
    if judged.own is Health.reauthorization_required and observation.outcome in GOOD:
        return True
    return judged.refusals > 0 and observation.outcome in GOOD


def raises_doubt(observation: Observation, judged: Judged) -> bool:
    """Whether a late word that the login is lost is outranked by nothing but cached words.

    Makini's status may lag behind its own event, whichever of the two came first.
    """
    if observation.outcome is not Outcome.login_lost or observation.source in OURS:
        return False
    if judged.own is Health.reauthorization_required or judged.lost_by:
        return False
    stronger = (judged.stated_at, judged.read_at, judged.restored_at, judged.connected_at)
    said = observation.at
    return not any(is_older(said, at and cut_alike(at, said), ours=False) for at in stronger)


def doubted(judged: Judged, observation: Observation) -> Judged:
    """`judged` with a doubt, which a read settles.

    Where there is nothing but Makini's list to judge by, nothing may be read, and its cached word
    does not outrank Makini's own event: so nobody knows.
    """
    at = observation.at
    state = replace(judged, lost_by=observation.source, lost_at=at)
    if judged.evidence is not Evidence.listed or judged.health is not Health.healthy:
        return state
    unknown = Health.unknown
    return replace(state, own=unknown, health=unknown, disputed=True, trouble_at=at)


def without_token(previous: Judged, state: Judged, observation: Observation) -> Judged:
    """`state`, which is what `observation` makes of `previous`, as far as it may be believed.

    A call with a token, ours or the product's, says how the connection is. A word of Makini's
    does not say that anybody has its token.
    """
    if observation.source in _OF_TOKEN and observation.outcome not in _SAYS_NOTHING:
        return replace(state, token_missing_since=None)
    if previous.own is not _LOST or state.own is _LOST:
        return state
    by, at = previous.lost_by, previous.lost_at
    return replace(state, own=_LOST, disputed=previous.disputed, lost_by=by, lost_at=at)
