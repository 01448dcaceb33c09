"""When a connection is probed next (INTERFACE `PROBE_MINUTES`)."""

from datetime import datetime, timedelta

from linekeeper.clock import uniform
from linekeeper.config import HealthPolicy
from linekeeper.health.evidence import Judged, Observation, Outcome


def next_probe_at(
    judged: Judged,
    observation: Observation,
    last_checked_at: datetime | None,
    policy: HealthPolicy,
    now: datetime,
) -> datetime | None:
    """When, after `observation`; None where only Makini's list ever spoke of it: as soon as it can.

    Spread out: a little earlier than due, each connection at a moment of its own. What Makini says
    unasked puts no probe off, however often it does.
    """
    if judged.asked_at is None and observation.outcome is Outcome.listed and not observation.tried:
        return None
    wait = timedelta(minutes=policy.probe_minutes * uniform(0.8, 0.95))
    return (judged.asked_at or last_checked_at or now) + wait
