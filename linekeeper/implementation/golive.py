"""Go-live: the connections are looked after from now on, and actual stands beside plan."""

from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.implementation import news
from linekeeper.implementation.evaluate import Evaluation
from linekeeper.implementation.plan import ahead_of_traditional
from linekeeper.implementation.standing import Standing
from linekeeper.store.outbox import Message
from linekeeper.store.tables import Connection, Transition


async def go_live(
    session: AsyncSession, standing: Standing, evaluation: Evaluation, *, now: datetime
) -> Message:
    """Turn on probes, reconciliation and alerts for its connections, record actual against plan.

    In the caller's transaction; returns what people are told.
    """
    one = standing.implementation
    for system in standing.systems:
        connection = (
            None
            if system.connection_id is None
            else await session.get(Connection, system.connection_id)
        )
        if connection is None or connection.setup == "disconnected":
            continue
        if connection.setup != "live":
            session.add(
                Transition(
                    connection_id=connection.id,
                    at=now,
                    axis="setup",
                    before=connection.setup,
                    after="live",
                    source="implementation",
                    evidence={"message": f"go-live of {one.title}"},
                )
            )
            connection.setup = "live"
        connection.hosting = one.hosting
        connection.suspect = True  # looked at in the next sweep, whatever it showed before
        connection.next_probe_at = now
    one.status = "live"
    one.live_at = now
    one.held_because = None
    one.actual = actual(standing, evaluation, now)
    return news.say(standing, "live", _words(standing, one.actual))


def actual(standing: Standing, evaluation: Evaluation, now: datetime) -> dict[str, Any]:
    """Actual against plan, as plain JSON values; days are working days."""
    one = standing.implementation
    day = now.astimezone(standing.calendar.zone).date()
    short, long = ahead_of_traditional(evaluation.now)
    return {
        "live": day.isoformat(),
        "planned": one.planned_p50.isoformat(),
        "days": round(evaluation.now, 2),
        "days_planned": round(standing.plan.likely, 2),
        "waited": {owner: round(days, 2) for owner, days in evaluation.waited.items()},
        "committed": one.committed.isoformat() if one.committed else None,
        "kept": day <= one.committed if one.committed else None,
        "weeks_ahead_of_traditional": {"min": short, "max": long},
    }


def _words(standing: Standing, facts: dict[str, Any]) -> str:
    waited = facts["waited"].get("customer", 0)
    promise = ""
    if facts["kept"] is not None:
        promise = ", as promised" if facts["kept"] else f", promised for {facts['committed']}"
    return (
        f"{standing.implementation.title} is live{promise}: {facts['days']:g} working days, "
        f"{facts['days_planned']:g} were planned; {waited:g} of them we waited for the customer."
    )
