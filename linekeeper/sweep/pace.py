"""What an app's call budget bears, of list and probes and of reconcile. Pure."""

from datetime import timedelta

from linekeeper.config import AppConfig, HealthPolicy
from linekeeper.makini.budget import LEAST_YIELDING_SHARE, RATE_SHARE
from linekeeper.text import counted, duration

SWEEP_MINUTES = 5.0
"""How far apart sweeps are scheduled; what falls due before the next one is probed in this one."""
BUDGET_SHARE = RATE_SHARE * (1 - LEAST_YIELDING_SHARE) * 0.9
"""The share of an app's calls between two sweeps that list and probes may count on, beside what
reconcile is granted in any case, and what webhooks and refreshed tokens take."""


def pages_of(app: AppConfig, connections: int) -> int:
    """How many calls the list takes."""
    return -(-connections // app.per_page)


def probe_calls(app: AppConfig, policy: HealthPolicy, connections: int, renewed: int) -> float:
    """The calls a minute that list and probes need.

    `renewed` of the connections need a new token for each probe (`linekeeper.sweep.renewals`).
    """
    every = policy.probe_minutes or SWEEP_MINUTES
    renewing = renewed / max(every, SWEEP_MINUTES)
    return connections / every + renewing + pages_of(app, connections) / SWEEP_MINUTES


def reading_calls(app: AppConfig, policy: HealthPolicy, connections: int, renewed: int) -> float:
    """The calls a minute that are left to reconcile, which comes after list and probes."""
    granted = app.calls_a_minute * RATE_SHARE
    needed = probe_calls(app, policy, connections, renewed)
    probing = min(needed, app.calls_a_minute * BUDGET_SHARE)
    return max(granted - probing, granted * LEAST_YIELDING_SHARE)


def for_tokens(renewed: int) -> str:
    """Why probes take more calls than there are connections; empty where they don't."""
    if not renewed:
        return ""
    return f", with a new token for {counted(renewed, 'connection')}, whose minted ones end before"


def in_words(calls: float, a_minute: float) -> str:
    """How long so many calls take at this pace."""
    return duration(timedelta(minutes=min(calls / a_minute, 5e8))) if a_minute else "for ever"
