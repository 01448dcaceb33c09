"""Incidents that a capability opens and resolves one at a time, in the caller's transaction."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.incidents.announce import announce
from linekeeper.incidents.lifecycle import (
    IncidentChange,
    Opening,
    find_open,
    join,
    leave,
    open_new,
    perform,
)
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Incident, IncidentConnection


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
    """Open the incident of `cause` and notify people of `text`; None if it is open already."""
    opening = Opening(
        topic=topic,
        kind=kind,
        scope=scope,
        cause=cause,
        app=app,
        title=title,
        summary=text,
        detail=detail,
        members=dict.fromkeys(connections, kind),
    )
    identifier = await open_new(store, session, opening, now=now)
    if identifier is not None:
        await announce(store, session, [IncidentChange(identifier, "opened", text)], now=now)
    return identifier


async def keep_members(
    store: Store, session: AsyncSession, cause: str, connections: Sequence[str], *, now: datetime
) -> None:
    """Make `connections` the members of the open incident of `cause`; nothing if there is none."""
    incident = await session.scalar(
        select(Incident).where(col(Incident.cause) == cause, col(Incident.resolved_at).is_(None))
    )
    if incident is None:
        return
    present = set(
        await session.scalars(
            select(col(IncidentConnection.connection_id)).where(
                col(IncidentConnection.incident_id) == incident.id,
                col(IncidentConnection.left_at).is_(None),
            )
        )
    )
    gone = sorted(present - set(connections))
    joined = [connection for connection in connections if connection not in present]
    await leave(session, incident.id, gone, now=now)
    kinds = dict.fromkeys(joined, incident.kind)
    await join(store, session, incident.id, incident.topic, kinds, now=now)


async def open_causes(session: AsyncSession, *, topic: str, kind: str) -> list[tuple[str, str]]:
    """The apps and causes of the open incidents of a topic and kind."""
    rows = await session.execute(
        select(col(Incident.app), col(Incident.cause)).where(
            col(Incident.topic) == topic,
            col(Incident.kind) == kind,
            col(Incident.resolved_at).is_(None),
        )
    )
    return [(row[0], row[1]) for row in rows]


async def is_open(session: AsyncSession, cause: str) -> bool:
    """Whether an incident of `cause` is open."""
    return await find_open(session, cause) is not None


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


async def resolve_incident(
    store: Store, session: AsyncSession, cause: str, text: str, *, now: datetime
) -> None:
    """Resolve the open incident of `cause` and say `text`; nothing if there is none."""
    identifier = await find_open(session, cause)
    if identifier is not None and await perform(session, identifier, "resolve", now=now):
        await announce(store, session, [IncidentChange(identifier, "resolved", text)], now=now)


async def resolve_of_disconnected(store: Store, topics: Sequence[str], *, now: datetime) -> int:
    """Resolve open incidents of `topics` about a connection that is disconnected; how many."""
    open_of_disconnected = (
        select(col(Incident.cause))
        .join(IncidentConnection, col(IncidentConnection.incident_id) == col(Incident.id))
        .join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
        .where(
            col(Incident.topic).in_(topics),
            col(Incident.scope) == "connection",
            col(Incident.resolved_at).is_(None),
            col(Connection.setup) == "disconnected",
        )
        .distinct()
    )
    async with store.read() as session:
        causes = list(await session.scalars(open_of_disconnected))
    if causes:
        async with store.write() as session:
            for cause in causes:
                await resolve_incident(
                    store, session, cause, "The connection was disconnected", now=now
                )
    return len(causes)
