"""What an observation says of Makini's last synchronization with the system. Pure."""

from datetime import timedelta

from linekeeper.config import HealthPolicy
from linekeeper.health.evidence import Health, Judged, Observation, unit_of

_OF_SYNC = frozenset({"sync_failing", "sync_stale"})


def is_stale(observation: Observation, policy: HealthPolicy) -> bool:
    """Whether the last synchronization is too long ago, whenever it was on the day it is dated."""
    synced = observation.sync_updated_at
    if synced is None:
        return False
    latest = synced + (unit_of(synced) or timedelta())
    return observation.at - latest > timedelta(hours=policy.stale_sync_hours)


def lasting_cause(previous: Judged, observation: Observation) -> str:
    """Why it is degraded as before, where `observation` is of a call that was merely answered.

    A record is read from what Makini has synchronized, however long ago that was. Empty where it
    says something of the synchronization, or nothing was wrong with that.
    """
    is_said = observation.sync_status is not None or observation.sync_updated_at is not None
    was_of_sync = previous.own is Health.degraded and previous.degraded_by in _OF_SYNC
    if observation.source == "webhook" or is_said or not was_of_sync:
        return ""
    return previous.degraded_by
