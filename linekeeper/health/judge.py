"""What one more observation makes of a connection's health. Pure and total; times are UTC.

`judge` is the one place where health is decided (DESIGN "Two axes"). What Makini's list says and
what the connection itself answers are kept apart: the list can cap an answer (`Inactive`, a status
nobody knows), but an entry in the list never outshines a probe that failed.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import median
from typing import Any

from linekeeper.config import HealthPolicy


class Health(StrEnum):
    """The health axis. `unknown` counts as unhealthy once a connection is live."""

    healthy = "healthy"
    degraded = "degraded"
    unreachable = "unreachable"
    reauthorization_required = "reauthorization_required"
    inactive = "inactive"
    unknown = "unknown"


class Outcome(StrEnum):
    """What an observation says."""

    answered = "answered"
    """The connection answered and its data flows, or is about to."""
    sync_failing = "sync_failing"
    """It answered, but its last sync ended in an error that is not the login."""
    login_lost = "login_lost"
    """`sync_status` fail, an auth-required event, or a 401 that nothing of ours mends."""
    missed = "missed"
    """No usable answer: time-out, network, 5xx, garbage."""
    refused = "refused"
    """It answered 403: not enough credits, or not allowed."""
    strange = "strange"
    """It answered with a status nobody knows."""
    listed = "listed"
    """What Makini's list says of it; the word is in `Observation.lifecycle`."""


SEVERITY = {
    Health.healthy: 0,
    Health.degraded: 1,
    Health.unknown: 2,
    Health.inactive: 3,
    Health.unreachable: 4,
    Health.reauthorization_required: 5,
}
"""Higher is worse; a rise makes a sweep red again."""


@dataclass(frozen=True, slots=True)
class Observation:
    """Something learned about a connection: what, from whom, when (UTC)."""

    at: datetime
    source: str
    """`list`, `probe`, `webhook`, `product`, `operator`."""
    outcome: Outcome
    lifecycle: str = ""
    """With `listed`: pending, synchronizing, in_progress, active, inactive, unknown."""
    decisive: bool = False
    """With `listed`: there is no token, so the list is all there is to judge by."""
    code: str | None = None
    message: str | None = None
    request_id: str | None = None
    latency: float | None = None
    """Seconds."""
    sync_status: str | None = None
    """Makini's word for its last synchronization, of a probe."""
    sync_updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What is held of a connection: its health and what later judgements need to remember."""

    health: Health = Health.unknown
    own: Health = Health.unknown
    """What the connection itself last showed, before the list caps it."""
    lifecycle: str = ""
    misses: int = 0
    observed_at: datetime | None = None
    falls: tuple[datetime, ...] = ()
    """When it fell from healthy, within the flap window."""
    trouble_at: datetime | None = None
    """When it was last seen in trouble."""
    latencies: tuple[float, ...] = ()

    @property
    def suspect(self) -> bool:
        """Whether the next sweep should look again, whatever its health."""
        return self.misses > 0 or self.own is Health.unknown


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement after an observation; `applied` is False for one that came too late."""

    judged: Judged
    applied: bool


def judge(previous: Judged, observation: Observation, policy: HealthPolicy) -> Verdict:
    """Return what `observation` makes of `previous`.

    An observation older than the one last applied changes nothing. A connection is never healthy
    on a status nobody knows.
    """
    if previous.observed_at is not None and observation.at < previous.observed_at:
        return Verdict(previous, applied=False)
    if observation.outcome is Outcome.listed:
        return _listed(previous, observation, policy)
    state = _seen(previous, observation, policy)
    return Verdict(_concluded(previous, state, observation, policy), applied=True)


def _listed(previous: Judged, observation: Observation, policy: HealthPolicy) -> Verdict:
    word = observation.lifecycle or "unknown"
    state = replace(previous, lifecycle=word)
    if observation.decisive:
        own = Health.healthy if word == "active" else Health.unknown
        state = replace(state, own=own, misses=0, latencies=())
    elif word == previous.lifecycle:
        # Nothing new, and no news of the login: later events keep their place in time.
        return Verdict(_concluded(previous, previous, observation, policy, dated=False), True)
    return Verdict(_concluded(previous, state, observation, policy), applied=True)


def _seen(previous: Judged, observation: Observation, policy: HealthPolicy) -> Judged:
    match observation.outcome:
        case Outcome.missed:
            misses = previous.misses + 1
            gone = misses >= policy.misses_unreachable
            lost = previous.own is Health.reauthorization_required
            own = Health.unreachable if gone and not lost else previous.own
            return replace(previous, own=own, misses=misses)
        case Outcome.login_lost:
            return replace(previous, own=Health.reauthorization_required, misses=0, latencies=())
        case Outcome.refused:
            return replace(previous, own=Health.inactive, misses=0)
        case Outcome.strange:
            return replace(previous, own=Health.unknown, misses=0)
        case _:
            return _answered(previous, observation, policy)


def _answered(previous: Judged, observation: Observation, policy: HealthPolicy) -> Judged:
    latencies = previous.latencies
    if observation.latency is not None:
        latencies = (*latencies, observation.latency)[-policy.slow_samples :]
    slow = len(latencies) == policy.slow_samples and median(latencies) > policy.slow_seconds
    synced = observation.sync_updated_at
    stale = synced is not None and observation.at - synced > timedelta(
        hours=policy.stale_sync_hours
    )
    failing = observation.outcome is Outcome.sync_failing
    own = Health.degraded if slow or stale or failing else Health.healthy
    return replace(previous, own=own, misses=0, latencies=latencies)


def _concluded(
    previous: Judged,
    state: Judged,
    observation: Observation,
    policy: HealthPolicy,
    *,
    dated: bool = True,
) -> Judged:
    at = observation.at
    window = timedelta(minutes=policy.flap_window_minutes)
    health = _capped(state.own, state.lifecycle)
    in_trouble = health not in (Health.healthy, Health.degraded) or state.misses > 0
    trouble_at = at if in_trouble else state.trouble_at
    falls = tuple(fall for fall in state.falls if timedelta() <= at - fall < window)
    stood = previous.health is Health.healthy or (
        previous.health is Health.degraded and previous.own is Health.healthy
    )
    if stood and health in _FALLEN:
        falls = (*falls, at)
    # Falls leave the window while it is kept waiting, so the waiting itself is remembered too.
    flapping = len(falls) >= policy.flap_falls or (
        previous.health is Health.degraded and len(state.falls) >= policy.flap_falls
    )
    if flapping and health is Health.healthy:
        quiet_since = trouble_at or at
        if at - quiet_since < timedelta(minutes=policy.flap_quiet_minutes):
            health = Health.degraded
            falls = state.falls or falls
        else:
            falls = ()
    return Judged(
        health,
        state.own,
        state.lifecycle,
        state.misses,
        at if dated else previous.observed_at,
        falls,
        trouble_at,
        state.latencies,
    )


_FALLEN = frozenset(
    {Health.unreachable, Health.reauthorization_required, Health.inactive, Health.unknown}
)


def _capped(own: Health, lifecycle: str) -> Health:
    if lifecycle == "inactive":
        return Health.inactive
    if lifecycle in ("unknown", "pending") and own in (Health.healthy, Health.degraded):
        return Health.unknown
    return own


def is_trouble(setup: str, health: str, *, answered: bool) -> bool:
    """Whether a connection in this state needs an incident.

    Nothing is wrong yet with one that isn't set up or that nothing was ever heard of (`answered`),
    nor any more with one that was disconnected.
    """
    if setup not in ("authorizing", "syncing", "live") or health == Health.healthy:
        return False
    return health != Health.unknown or (setup == "live" and answered)


def dump(judged: Judged) -> dict[str, Any]:
    """`judged` as JSON for the table `connection`."""
    return {
        "health": judged.health.value,
        "own": judged.own.value,
        "lifecycle": judged.lifecycle,
        "misses": judged.misses,
        "observed_at": _text(judged.observed_at),
        "falls": [fall.isoformat() for fall in judged.falls],
        "trouble_at": _text(judged.trouble_at),
        "latencies": list(judged.latencies),
    }


def load(row: dict[str, Any]) -> Judged:
    """The inverse of `dump`; an empty row is a connection nobody has judged yet."""
    if not row:
        return Judged()
    return Judged(
        health=Health(row["health"]),
        own=Health(row["own"]),
        lifecycle=row["lifecycle"],
        misses=row["misses"],
        observed_at=_time(row["observed_at"]),
        falls=tuple(datetime.fromisoformat(fall) for fall in row["falls"]),
        trouble_at=_time(row["trouble_at"]),
        latencies=tuple(row["latencies"]),
    )


def _text(at: datetime | None) -> str | None:
    return at.isoformat() if at is not None else None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
