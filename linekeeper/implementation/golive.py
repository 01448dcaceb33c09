"""Go-live: the connections are looked after from now on, and actual stands beside plan.

Until then they are probed and reconciled too, because gates are proven by it, but nobody is
alarmed (`linekeeper.incidents.suppressed`): what is wrong stands on the implementation's own page.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.implementation import news
from linekeeper.implementation.evaluate import Evaluation
from linekeeper.implementation.hold import ended
from linekeeper.implementation.plan import ahead_of_traditional
from linekeeper.implementation.proofs import SystemTrouble
from linekeeper.implementation.standing import Standing
from linekeeper.outbox.events import request_reconnects
from linekeeper.outbox.queue import Message
from linekeeper.reconnect.remind import DEADLINE
from linekeeper.store.tables import (
    Connection,
    Incident,
    IncidentConnection,
    Reconnect,
    Transition,
)


async def go_live(
    session: AsyncSession,
    standing: Standing,
    evaluation: Evaluation,
    troubles: Sequence[SystemTrouble],
    *,
    now: datetime,
) -> list[Message]:
    """Turn on probes, reconciliation and alerts for its connections, record actual against plan.

    In the caller's transaction; returns what is to be sent.
    """
    implementation = standing.implementation
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
                    evidence={"message": f"go-live of {implementation.title}"},
                )
            )
            connection.setup = "live"
        if connection.tariff_by is None:
            connection.hosting = system.hosting or implementation.hosting
        connection.suspect = True  # looked at in the next sweep, whatever it showed before
        connection.next_probe_at = now
    implementation.status = "live"
    implementation.live_at = now
    implementation.held_because = None
    implementation.holds = ended(implementation.holds, now)
    implementation.actual = actual(standing, evaluation, now)
    message = news.say(standing, "live", _words(standing, implementation.actual, troubles))
    return [message, *await begin_alerts(session, standing, now)]


async def begin_alerts(session: AsyncSession, standing: Standing, now: datetime) -> list[Message]:
    """From now on people are notified of trouble with its connections, and customers are asked.

    Their time to log in begins now. Returns what is to be sent, in the caller's transaction.
    """
    own = [system.connection_id for system in standing.systems if system.connection_id is not None]
    incidents = list(
        await session.scalars(
            select(col(Incident.id))
            .join(IncidentConnection, col(IncidentConnection.incident_id) == col(Incident.id))
            .where(
                col(IncidentConnection.connection_id).in_(own),
                col(IncidentConnection.left_at).is_(None),
                col(Incident.resolved_at).is_(None),
            )
            .distinct()
            .order_by(col(Incident.id))
        )
    )
    await session.execute(
        update(Reconnect)
        .where(col(Reconnect.incident_id).in_(incidents), col(Reconnect.closed_at).is_(None))
        .values(deadline_at=now + DEADLINE)
    )
    return request_reconnects(incidents)


def actual(standing: Standing, evaluation: Evaluation, now: datetime) -> dict[str, Any]:
    """Actual against plan, as plain JSON values; days are working days."""
    implementation = standing.implementation
    day = now.astimezone(standing.calendar.zone).date()
    short, long = ahead_of_traditional(evaluation.now)
    return {
        "live": day.isoformat(),
        "planned": implementation.planned_p50.isoformat(),
        "days": round(evaluation.now, 2),
        "days_planned": round(standing.plan.likely, 2),
        "waited": {owner: round(days, 2) for owner, days in evaluation.waited.items()},
        "on_hold": round(evaluation.on_hold, 2),
        "committed": implementation.committed.isoformat() if implementation.committed else None,
        "kept": day <= implementation.committed if implementation.committed else None,
        "weeks_ahead_of_traditional": {"min": short, "max": long},
    }


def _words(standing: Standing, facts: dict[str, Any], troubles: Sequence[SystemTrouble]) -> str:
    waited = facts["waited"].get("customer", 0)
    promise = ""
    if facts["kept"] is not None:
        promise = ", as promised" if facts["kept"] else f", promised for {facts['committed']}"
    named = ", ".join(trouble.words for trouble in troubles)
    trouble = f" In trouble: {named}." if named else ""
    on_hold = f", {facts['on_hold']:g} it was on hold" if facts["on_hold"] else ""
    return (
        f"{standing.implementation.title} is live{promise}: {facts['days']:g} working days, "
        f"{facts['days_planned']:g} were planned; {waited:g} of them we waited for the customer"
        f"{on_hold}.{trouble}"
    )
