"""A finder hands over everything it finds wrong; its topic's incidents are brought in line with it.

Each topic has one owner, the module that has it as its `TOPIC`. Nobody else's incidents are
touched, and what people set on an incident (acknowledged, snoozed, muted) outlives every update.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.incidents.announce import announce
from linekeeper.incidents.lifecycle import IncidentChange, Opening, join, leave, open_new, perform
from linekeeper.store import Store
from linekeeper.store.tables import Incident, IncidentConnection

_LOCK = 4_217_003  # PostgreSQL's advisory lock: one process at a time brings a topic in line


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong at present."""

    kind: str
    cause: str
    """What makes it the same trouble the next time; unique among open incidents."""
    app: str
    title: str
    text: str
    """What is wrong and what to do about it, in whole sentences."""
    scope: str = "app"
    figure: float | None = None
    """How bad it is; people are notified again when it has doubled."""
    members: Sequence[str] = ()
    """Ids of the connections it is about."""
    resolved: str = "It is over."
    """What is said when it is found no more."""
    detail: Mapping[str, Any] = field(default_factory=dict)


async def apply_findings(
    store: Store,
    session: AsyncSession,
    topic: str,
    findings: Sequence[Finding],
    *,
    now: datetime,
    undecided: Collection[str] = (),
) -> list[IncidentChange]:
    """Open, update and resolve the incidents of `topic`, so that they are what `findings` say.

    `findings` is complete: what is open and not among them is resolved, unless all its members are
    `undecided`: connections of which nothing can be known now. Returns what changed; it is
    announced already, in the caller's transaction.
    """
    if not store.is_sqlite:
        await session.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    found = {finding.cause: finding for finding in findings}
    opened = {
        incident.cause: incident
        for incident in await session.scalars(
            select(Incident).where(
                col(Incident.topic) == topic, col(Incident.resolved_at).is_(None)
            )
        )
    }
    changes: list[IncidentChange] = []
    for finding in found.values():
        incident = opened.get(finding.cause)
        if incident is None:
            changes += await _open(store, session, topic, finding, now)
        else:
            changes += await _update(store, session, incident, finding, now)
    for cause, incident in opened.items():
        if cause in found:
            continue
        members = await _members(session, incident.id)
        if members and members <= set(undecided):
            continue
        if await perform(session, incident.id, "resolve", now=now):
            said = incident.detail.get("resolved") or "It is over."
            changes.append(IncidentChange(incident.id, "resolved", str(said)))
    await announce(store, session, changes, now=now)
    return changes


async def _open(
    store: Store, session: AsyncSession, topic: str, finding: Finding, now: datetime
) -> list[IncidentChange]:
    opening = Opening(
        topic=topic,
        kind=finding.kind,
        scope=finding.scope,
        cause=finding.cause,
        app=finding.app,
        title=finding.title,
        summary=finding.text,
        figure=finding.figure,
        detail=_detail(finding),
        members=dict.fromkeys(finding.members, finding.kind),
    )
    identifier = await open_new(store, session, opening, now=now)
    return [IncidentChange(identifier, "opened", finding.text)] if identifier else []


async def _update(
    store: Store, session: AsyncSession, incident: Incident, finding: Finding, now: datetime
) -> list[IncidentChange]:
    worse = is_worse(incident.figure, finding.figure)
    figure = finding.figure if worse else incident.figure
    turned = incident.kind != finding.kind
    columns = {
        "kind": finding.kind,
        "title": finding.title,
        "summary": finding.text,
        "figure": figure,
        "detail": {**incident.detail, **_detail(finding)},
    }
    moved = await _bring_members(store, session, incident, finding, now)
    if any(getattr(incident, name) != value for name, value in columns.items()):
        await perform(session, incident.id, "change", now=now, **columns)
    if worse or moved or turned:
        said = finding.text if worse or turned else ""
        return [IncidentChange(incident.id, "changed", said)]
    return []


async def _bring_members(
    store: Store, session: AsyncSession, incident: Incident, finding: Finding, now: datetime
) -> bool:
    before = await _members(session, incident.id)
    wanted = set(finding.members)
    if before == wanted:
        return False
    await leave(session, incident.id, sorted(before - wanted), now=now)
    joined = dict.fromkeys(sorted(wanted - before), finding.kind)
    await join(store, session, incident.id, incident.topic, joined, now=now)
    return True


async def _members(session: AsyncSession, incident_id: str) -> set[str]:
    return set(
        await session.scalars(
            select(col(IncidentConnection.connection_id)).where(
                col(IncidentConnection.incident_id) == incident_id,
                col(IncidentConnection.left_at).is_(None),
            )
        )
    )


def _detail(finding: Finding) -> dict[str, Any]:
    return {**finding.detail, "resolved": finding.resolved}


def is_worse(before: float | None, figure: float | None) -> bool:
    """Whether it is so much worse than people were notified of that they should hear again."""
    return figure is not None and figure >= 2 * max(before or 0.0, 1.0)
