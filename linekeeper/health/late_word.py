"""A word that the login is lost, older than what its connection was last judged by. Pure."""

from dataclasses import replace
from datetime import datetime, timedelta

from linekeeper.health.evidence import (
    OURS,
    Evidence,
    Health,
    Judged,
    Observation,
    Outcome,
    is_older,
)


def raises_doubt(observation: Observation, judged: Judged) -> bool:
    """Whether a late word that the login is lost is outranked by nothing but cached words.

    Makini's status may lag behind its own event, whichever of the two came first.
    """
    if observation.outcome is not Outcome.login_lost or observation.source in OURS:
        return False
    if judged.own is Health.reauthorization_required or judged.lost_by:
        return False
    unit = unit_of(observation.at)
    stronger = (judged.stated_at, judged.read_at, judged.restored_at, judged.connected_at)
    return not any(is_older(observation.at, _within(at, unit), ours=False) for at in stronger)


def unit_of(at: datetime) -> timedelta | None:
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
