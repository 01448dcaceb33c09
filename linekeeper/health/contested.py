"""When evidence about a login contradicts itself, and what people are told then. Pure.

Makini's status and its list are words it had cached: they may lag behind the truth by a
synchronization (MAKINI "Found since"). So a good one doesn't undo a dated word that the login is
lost (an event, a refused read, the product's refused calls), nor does a `fail` from before the
customer logged in undo the login. A read with the connection's own token settles it; where nothing
may be read the health is `unknown`.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from linekeeper.config import HealthPolicy
from linekeeper.health.state import Health, Judged, Observation, Outcome
from linekeeper.makini import OTHER_SHAPE

CACHED = ("list", "probe")
"""Sources that repeat what Makini had cached."""
OURS = (*CACHED, "read")
"""Sources dated by our own clock, to the microsecond."""
CALLS = ("probe", "read", "reconcile")
"""Sources that call with the connection's own token."""
LAG_AFTER_LOGIN = timedelta(hours=1)
"""So long after a login a `fail` may be of a synchronization that had begun before it, whatever
its date says, and is if it has none: a read settles it."""
_GOOD = (Outcome.answered, Outcome.sync_failing)
_WORDS = {
    "webhook": "Makini's event said that the login is lost",
    "read": "a read was refused",
    "reconcile": "a read was refused",
    "reconnect": "a read was refused",
}


def is_late(observation: Observation, judged: Judged) -> bool:
    """Whether `observation` is older than what the connection was last judged by.

    Two times are compared as finely as the coarser of them is given, so a sender's whole second is
    not older than a probe within it. The sender's word wins such a tie.
    """
    if observation.outcome is Outcome.doubted and observation.source not in OURS:
        # A status probed since says nothing of a call that was refused before it.
        good = [at for at in (judged.read_at, judged.restored_at) if at is not None]
        return bool(good) and observation.at < max(good)
    return is_older(observation.at, judged.observed_at, ours=observation.source in OURS)


def without_proof(observation: Observation) -> Observation:
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
        "gone there, or its login is lost. The next whole list tells.",
    )


def is_readable(observation: Observation) -> bool:
    """Whether Makini's answer says something of the connection, be it that it refuses the call."""
    return observation.outcome is not Outcome.missed and observation.code != OTHER_SHAPE


def raises_doubt(observation: Observation, judged: Judged) -> bool:
    """Whether a late word that the login is lost is outranked by nothing but cached words.

    Makini's status may lag behind its own event, whichever of the two came first.
    """
    if observation.outcome is not Outcome.login_lost or observation.source in OURS:
        return False
    if judged.own is Health.reauthorization_required or judged.lost_by:
        return False
    unit = _unit(observation.at)
    stronger = (judged.stated_at, judged.read_at, judged.restored_at)
    return not any(is_older(observation.at, _within(at, unit), ours=False) for at in stronger)


def _unit(at: datetime) -> timedelta | None:
    """The minute, hour or day to which the time of an event may have been cut; None for neither.

    A sender that gives whole days says of every event that it was before whatever we did that day.
    One in sixty whole minutes, and the rare whole day, is none that was cut: all that costs is a
    read.
    """
    if at.microsecond or at.second:
        return None
    if at.minute:
        return timedelta(minutes=1)
    return timedelta(hours=1) if at.hour else timedelta(days=1)


def _within(at: datetime | None, unit: timedelta | None) -> datetime | None:
    """`at`, cut to `unit` as the other time may have been."""
    if at is None or unit is None:
        return at
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (at - midnight) // unit * unit


def is_older(at: datetime, than: datetime | None, *, ours: bool) -> bool:
    """Whether `at` is before `than`; `ours` tells a time of our own clock from a sender's."""
    if than is None:
        return False
    mine, theirs = _grain(at), _grain(than)
    grain = max(mine, theirs)
    left, right = _floor(at, grain), _floor(than, grain)
    if left != right:
        return left < right
    return ours and theirs > mine


def _floor(at: datetime, grain: int) -> datetime:
    return at.replace(microsecond=at.microsecond // grain * grain)


def _grain(at: datetime) -> int:
    """How finely `at` is given, in microseconds."""
    if at.microsecond == 0:
        return 1_000_000
    return 1_000 if at.microsecond % 1_000 == 0 else 1


def contradicts(judged: Judged, observation: Observation, policy: HealthPolicy) -> bool:
    """Whether a cached word says the opposite of something dated that we know of the login."""
    if observation.source not in CACHED:
        return False
    if observation.outcome is Outcome.login_lost:
        return _is_leftover(judged, observation)
    if observation.outcome in _GOOD or _is_listed_active(observation):
        return _is_claimed_lost(judged, observation, policy)
    return False


def _is_leftover(judged: Judged, observation: Observation) -> bool:
    """Whether a status `fail` may be of a synchronization before the customer logged in."""
    back = judged.restored_at
    if observation.sync_status != "fail" or back is None:
        return False
    if observation.sync_updated_at is None:
        return observation.at - back < LAG_AFTER_LOGIN
    return observation.sync_updated_at - back < LAG_AFTER_LOGIN


def _is_claimed_lost(judged: Judged, observation: Observation, policy: HealthPolicy) -> bool:
    said = [at for at in (judged.lost_at, judged.refused_at) if at is not None]
    if said and observation.connected_at is not None and observation.connected_at > max(said):
        return False  # the customer connected it again since
    if judged.lost_by:
        synced, lost = observation.sync_updated_at, judged.lost_at
        lag = timedelta(hours=policy.stale_sync_hours)
        # No synchronization takes longer to be seen: this one began with a login that works.
        outlived = synced is not None and lost is not None and synced - lost > lag
        return not (observation.unread and outlived)
    if judged.refusals < policy.failing_calls or judged.refused_at is None:
        return False
    return observation.at - judged.refused_at <= timedelta(minutes=policy.failing_minutes)


def _is_listed_active(observation: Observation) -> bool:
    return (
        observation.outcome is Outcome.listed
        and observation.decisive
        and observation.lifecycle == "active"
    )


def wants_read(judged: Judged, observation: Observation, policy: HealthPolicy) -> bool:
    """Whether a read has to settle what this status of a probe leaves open.

    A lost login is not taken for found again by a cached word alone: that of a connection which
    Makini has switched off is as good as ever.
    """
    if contradicts(judged, observation, policy):
        return True
    if judged.own is Health.reauthorization_required and observation.outcome in _GOOD:
        return True
    return judged.refusals > 0 and observation.outcome in _GOOD


def dispute(judged: Judged, observation: Observation) -> str:
    """Why the health is unknown though Makini says something, for people."""
    if observation.outcome is Outcome.login_lost:
        back = f" of {judged.restored_at:%H:%M} UTC" if judged.restored_at else ""
        word = f"Makini's status still says fail, perhaps from before the login{back}"
    else:
        word = _claim(judged)
        cached = (
            "its list says active"
            if observation.outcome is Outcome.listed
            else f"its status says {observation.sync_status or 'well'}"
        )
        word += f", but {cached}" if observation.source in CACHED else ""
    return f"The evidence contradicts itself: {word}. No record may be read to settle it."


def _claim(judged: Judged) -> str:
    if judged.lost_by:
        said = _WORDS.get(judged.lost_by, f"{judged.lost_by} said that the login is lost")
        return f"{said} at {judged.lost_at:%Y-%m-%d %H:%M} UTC" if judged.lost_at else said
    calls = "1 call" if judged.refusals == 1 else f"{judged.refusals} calls"
    last = f", the last at {judged.refused_at:%H:%M} UTC" if judged.refused_at else ""
    return f"Makini refused {calls} of the product{last}"
