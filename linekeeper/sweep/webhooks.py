"""The incidents of the stream of webhooks itself: opened and resolved by every sweep."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.incidents.announce import announce
from linekeeper.incidents.changes import IncidentChange
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.tables import Incident
from linekeeper.sweep.stream import Finding, WatchPolicy, examine, is_worse
from linekeeper.sweep.stream_queries import read_streams

TOPIC = "webhooks"
_POLICY = WatchPolicy()
_LOCK = 4_217_003  # PostgreSQL's advisory lock: one process watches at a time


async def watch(rt: Runtime, now: datetime, *, policy: WatchPolicy = _POLICY) -> list[str]:
    """Bring the incidents about webhooks in line with what is seen; returns those that changed.

    Each app and kind of trouble (`linekeeper.sweep.stream.KINDS`) is one incident, open as long as
    it is found; people hear again when it is twice as bad.
    """
    apps = (await rt.configuration()).apps
    async with rt.store.read() as session:
        streams = await read_streams(session, apps, now=now)
    async with rt.store.write() as session:
        if not rt.store.is_sqlite:
            await session.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        opened = {one.cause: one for one in await _open(session)}
        found: dict[str, Finding] = {}
        for stream in streams:
            kinds = {one.kind for one in opened.values() if one.app == stream.app}
            for finding in examine(stream, policy=policy, now=now, open_kinds=kinds):
                found[finding.cause] = finding
        changes = [
            *[await _begin(session, one, now) for one in found.values() if one.cause not in opened],
            *[
                change
                for one in found.values()
                if one.cause in opened and (change := await _go_on(session, opened[one.cause], one))
            ],
            *[await _end(session, one, now) for one in opened.values() if one.cause not in found],
        ]
        await announce(rt.store, session, changes, now=now)
    return [change.incident_id for change in changes]


async def _open(session: AsyncSession) -> Sequence[Incident]:
    rows = await session.scalars(
        select(Incident).where(col(Incident.topic) == TOPIC, col(Incident.resolved_at).is_(None))
    )
    return rows.all()


async def _begin(session: AsyncSession, finding: Finding, now: datetime) -> IncidentChange:
    incident = Incident(
        id=new_id(),
        topic=TOPIC,
        kind=finding.kind,
        scope="app",
        cause=finding.cause,
        app=finding.app,
        title=_title(finding),
        opened_at=now,
        detail={"found": finding.text, "figure": finding.figure},
    )
    session.add(incident)
    await session.flush()
    return IncidentChange(incident.id, "opened", finding.text)


async def _go_on(
    session: AsyncSession, incident: Incident, finding: Finding
) -> IncidentChange | None:
    told = float(incident.detail.get("figure", 0))
    worse = is_worse(told, finding.figure)
    await session.execute(
        update(Incident)
        .where(col(Incident.id) == incident.id)
        .values(
            title=_title(finding),
            detail={"found": finding.text, "figure": finding.figure if worse else told},
        )
        .execution_options(synchronize_session=False)
    )
    return IncidentChange(incident.id, "changed", finding.text) if worse else None


async def _end(session: AsyncSession, incident: Incident, now: datetime) -> IncidentChange:
    await session.execute(
        update(Incident)
        .where(col(Incident.id) == incident.id)
        .values(status="resolved", resolved_at=now)
        .execution_options(synchronize_session=False)
    )
    return IncidentChange(incident.id, "resolved", "Over")


def _title(finding: Finding) -> str:
    return f"app {finding.app} · {finding.text}"
