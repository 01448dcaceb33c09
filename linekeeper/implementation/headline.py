"""The head of an implementation's page: its status, its dates, and who was waited for. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from linekeeper.implementation.hold import days_of
from linekeeper.implementation.plan import TRADITIONAL_MONTHS
from linekeeper.implementation.progress import Progress
from linekeeper.implementation.queries import UNDERWAY
from linekeeper.markdown import literal
from linekeeper.people import person


def headline(progress: Progress, now: datetime) -> Iterable[str]:
    implementation, outlook = progress.standing.implementation, progress.outlook
    status = f"**{implementation.status}**" + (
        f": {literal(implementation.held_because)}" if implementation.held_because else ""
    )
    yield (
        f"{status} · {implementation.complexity}, {progress.standing.plan.scope.hosting_shown} · "
        f"owner {literal(person(implementation.owner).shown)} · kickoff {implementation.kickoff} · "
        f"{round(100 * progress.evaluation.progress)} % done"
    )
    low, high = outlook.plan.published
    if implementation.status == "live":
        yield _actual(implementation.actual)
    elif implementation.status == "abandoned":
        yield (
            f"Abandoned on {implementation.abandoned_at:%Y-%m-%d}. Credits that were still "
            "reserved came back."
        )
    elif implementation.status in UNDERWAY:
        promise = ""
        if implementation.committed is not None:
            chance = round(100 * (outlook.forecast.chance or 0))
            state = "On track" if outlook.commitment == "kept" else outlook.commitment
            promise = (
                f" Committed {implementation.committed}: **{state}** (probability {chance} %)."
            )
        yield (
            f"Forecast go-live: **{outlook.p50}** (P50), {outlook.p80} (P80); "
            f"the first forecast was {implementation.planned_p50}.{promise}"
        )
    yield from _on_hold(progress, now)
    reasons = literal("; ".join(outlook.plan.beyond))
    outside = f" This plan is outside them: {reasons}." if reasons else ""
    yield (
        f"Makini publishes {low} to {high} weeks for {implementation.complexity}.{outside} "
        f"A traditional project takes {TRADITIONAL_MONTHS[0]} to {TRADITIONAL_MONTHS[1]} months."
    )
    waited, on_hold = progress.evaluation.waited, progress.evaluation.on_hold
    held = f", {on_hold:.1f} on hold" if on_hold else ""
    yield (
        f"Working days so far: {waited['us']:.1f} waiting for us, {waited['customer']:.1f} for the "
        f"customer, {waited['makini']:.1f} for Makini{held}."
    )


def _on_hold(progress: Progress, now: datetime) -> Iterable[str]:
    standing = progress.standing
    if not standing.held or not standing.holds:
        return
    hold, committed = standing.holds[-1], standing.implementation.committed
    days = days_of(hold, progress.outlook.start, now, standing.calendar)
    promised = f" The committed date {committed} stays as it is." if committed else ""
    yield (
        f"On hold since {hold.since:%Y-%m-%d %H:%M} UTC. These {days:.1f} working days count for "
        f"neither side: the forecast assumes that the work goes on now, and no step is overdue "
        f"because of them.{promised}"
    )


def _actual(facts: dict[str, Any]) -> str:
    kept = {None: "", True: ", as committed", False: f", committed was {facts.get('committed')}"}
    on_hold = f", {facts['on_hold']:g} on hold" if facts.get("on_hold") else ""
    return (
        f"Live since **{facts.get('live')}**{kept[facts.get('kept')]}; the plan was "
        f"{facts.get('planned')}. It took {facts.get('days')} working days; "
        f"{facts.get('days_planned')} were planned{on_hold}."
    )
