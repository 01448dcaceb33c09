"""Logins of one provider lost within moments of each other: perhaps they are one root cause."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.store.tables import Incident

ROOT_CAUSE_WAIT = timedelta(seconds=20)
"""A lost login that follows another of its provider by less is held back for so long."""
LOST = "reauthorization_required"
_LONGEST = timedelta(minutes=10)


def heads(incidents: Sequence[Incident]) -> dict[str, str]:
    """For lost logins, each alone, that follow another of their provider: the first of the row.

    Makini tells of them one by one; whoever doesn't answer is suspected for a while first. Pure.
    """
    last: dict[tuple[str, str], tuple[datetime, str]] = {}
    found: dict[str, str] = {}
    for incident in sorted(incidents, key=lambda one: (one.opened_at, one.id)):
        is_lost = (incident.scope, incident.kind) == (
            "connection",
            LOST,
        ) and incident.resolved_at is None
        if not is_lost or not incident.provider:
            continue
        where = (incident.app, incident.provider)
        before, head = last.get(where, (datetime.min.replace(tzinfo=incident.opened_at.tzinfo), ""))
        if incident.opened_at - before < ROOT_CAUSE_WAIT:
            found[incident.id] = head
        else:
            head = incident.id
        last[where] = incident.opened_at, head
    return found


async def heads_of(
    session: AsyncSession, incident_ids: Collection[str], *, now: datetime
) -> dict[str, str]:
    """Of `incident_ids`, just opened, those that follow another; each with the first of the row."""
    if not incident_ids:
        return {}
    rows = await session.scalars(
        select(Incident).where(
            col(Incident.scope) == "connection",
            col(Incident.kind) == LOST,
            col(Incident.resolved_at).is_(None),
            col(Incident.opened_at) > now - _LONGEST,
        )
    )
    found = heads(rows.all())
    return {identifier: found[identifier] for identifier in incident_ids if identifier in found}
