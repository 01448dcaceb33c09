"""Opening and resolving the incidents reconciliation finds, in the caller's transaction."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.incidents.announce import announce
from linekeeper.incidents.changes import IncidentChange
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Connection, Incident, IncidentConnection
from linekeeper.store.upsert import insert_ignore


async def open_incident(
    store: Store,
    session: AsyncSession,
    *,
    topic: str,
    kind: str,
    scope: str,
    cause: str,
    app: str,
    title: str,
    text: str,
    connections: Sequence[str],
    detail: dict[str, Any],
    now: datetime,
) -> str | None:
    """Open the incident of `cause` and tell people `text`; None if it is open already."""
    if await _open(session, cause) is not None:
        return None
    incident = Incident(
        topic=topic,
        kind=kind,
        scope=scope,
        cause=cause,
        app=app,
        title=title,
        opened_at=now,
        detail=detail,
    )
    session.add(incident)
    await session.flush()
    await _join(store, session, incident, connections, now=now)
    await announce(store, session, [IncidentChange(incident.id, "opened", text)], now=now)
    return incident.id


async def keep_members(
    store: Store, session: AsyncSession, cause: str, connections: Sequence[str], *, now: datetime
) -> None:
    """Make `connections` the members of the open incident of `cause`; nothing if there is none."""
    incident = await session.scalar(
        select(Incident).where(col(Incident.cause) == cause, col(Incident.resolved_at).is_(None))
    )
    if incident is None:
        return
    live = set(
        await session.scalars(
            select(col(IncidentConnection.connection_id)).where(
                col(IncidentConnection.incident_id) == incident.id,
                col(IncidentConnection.left_at).is_(None),
            )
        )
    )
    gone = sorted(live - set(connections))
    for start in range(0, len(gone), 10_000):
        await session.execute(
            update(IncidentConnection)
            .where(
                col(IncidentConnection.incident_id) == incident.id,
                col(IncidentConnection.connection_id).in_(gone[start : start + 10_000]),
                col(IncidentConnection.left_at).is_(None),
            )
            .values(left_at=now)
        )
    fresh = [one for one in connections if one not in live]
    await _join(store, session, incident, fresh, now=now)


async def open_causes(session: AsyncSession, *, topic: str, kind: str) -> list[tuple[str, str]]:
    """The apps and causes of the open incidents of a topic and kind that concern a connection."""
    rows = await session.execute(
        select(col(Incident.app), col(Incident.cause)).where(
            col(Incident.topic) == topic,
            col(Incident.kind) == kind,
            col(Incident.scope) == "connection",
            col(Incident.resolved_at).is_(None),
        )
    )
    return [(row[0], row[1]) for row in rows]


async def is_open(session: AsyncSession, cause: str) -> bool:
    """Whether an incident of `cause` is open."""
    return await _open(session, cause) is not None


async def resolve_of_apps(
    store: Store, session: AsyncSession, apps: Sequence[str], text: str, *, now: datetime
) -> None:
    """Resolve whatever is open of `apps`, of every topic."""
    causes = await session.scalars(
        select(col(Incident.cause)).where(
            col(Incident.app).in_(apps), col(Incident.resolved_at).is_(None)
        )
    )
    for cause in causes.all():
        await resolve_incident(store, session, cause, text, now=now)


async def _join(
    store: Store,
    session: AsyncSession,
    incident: Incident,
    connections: Sequence[str],
    *,
    now: datetime,
) -> None:
    members = [
        {
            "id": new_id(),
            "incident_id": incident.id,
            "connection_id": connection,
            "topic": incident.topic,
            "kind": incident.kind,
            "joined_at": now,
        }
        for connection in connections
    ]
    for start in range(0, len(members), 1_000):
        await insert_ignore(store, session, IncidentConnection, members[start : start + 1_000])


async def resolve_incident(
    store: Store, session: AsyncSession, cause: str, text: str, *, now: datetime
) -> None:
    """Resolve the open incident of `cause` and say `text`; nothing if there is none."""
    identifier = await _open(session, cause)
    if identifier is None:
        return
    await session.execute(
        update(IncidentConnection)
        .where(
            col(IncidentConnection.incident_id) == identifier,
            col(IncidentConnection.left_at).is_(None),
        )
        .values(left_at=now)
    )
    await session.execute(
        update(Incident)
        .where(col(Incident.id) == identifier)
        .values(status="resolved", resolved_at=now)
    )
    await announce(store, session, [IncidentChange(identifier, "resolved", text)], now=now)


async def resolve_of_disconnected(store: Store, topics: Sequence[str], *, now: datetime) -> int:
    """Resolve open incidents of `topics` about connections that are disconnected; how many.

    Whose it is says the cause: its second part is the connection's id.
    """
    async with store.read() as session:
        causes = list(
            await session.scalars(
                select(col(Incident.cause)).where(
                    col(Incident.topic).in_(topics),
                    col(Incident.scope) == "connection",
                    col(Incident.resolved_at).is_(None),
                )
            )
        )
        whose = {cause: cause.split(":")[1] for cause in causes}
        gone = set(
            await session.scalars(
                select(col(Connection.id)).where(
                    col(Connection.id).in_(sorted(set(whose.values()))),
                    col(Connection.setup) == "disconnected",
                )
            )
        )
    over = [cause for cause, connection in whose.items() if connection in gone]
    if over:
        async with store.write() as session:
            for cause in over:
                await resolve_incident(
                    store, session, cause, "The connection was disconnected", now=now
                )
    return len(over)


async def _open(session: AsyncSession, cause: str) -> str | None:
    found: str | None = await session.scalar(
        select(col(Incident.id)).where(
            col(Incident.cause) == cause, col(Incident.resolved_at).is_(None)
        )
    )
    return found
