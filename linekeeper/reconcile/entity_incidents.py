"""Incidents of entities that can't be read: opened, kept and resolved as one complete set."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.incidents.lifecycle import find_open, join, leave
from linekeeper.incidents.single import open_incident, resolve_incident
from linekeeper.reconcile.entity_failures import Finding, find_failures, topic_of
from linekeeper.reconcile.entity_queries import entity_states
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.connection_settings import configured, load_settings
from linekeeper.store.tables import Incident, IncidentConnection


async def settle_entities(rt: Runtime, *, now: datetime) -> list[Finding]:
    """Open the incidents there should be about entities, and resolve the others.

    Whatever health a connection has, it is not touched. While nothing of a connection may be read
    (its circuit is open) what is known of its entities stays as it is.
    """
    apps = (await rt.configuration()).apps
    known = [state for state in await entity_states(rt.store) if state.app in apps]
    async with rt.store.read() as session:
        settings = await load_settings(session, {state.connection_id for state in known})
    states = [
        state
        for state in known
        if state.entity in configured(apps[state.app], settings.get(state.connection_id)).entities
    ]
    closed = {state.connection_id for state in states if not state.may_be_read}
    findings = find_failures([state for state in states if state.may_be_read])
    async with rt.store.read() as session:
        opened = {
            cause: set(await _members(session, identifier))
            for identifier, cause in await session.execute(
                select(col(Incident.id), col(Incident.cause)).where(
                    col(Incident.topic).startswith(topic_of("")),
                    col(Incident.resolved_at).is_(None),
                )
            )
        }
    wanted = {finding.cause: finding for finding in findings}
    over = [
        cause
        for cause, members in opened.items()
        if cause not in wanted and not (members and members <= closed)
    ]
    moved = [
        cause
        for cause, members in opened.items()
        if cause in wanted and members != set(wanted[cause].connections)
    ]
    new = [finding for finding in findings if finding.cause not in opened]
    if not (over or moved or new):
        return findings
    async with rt.store.write() as session:
        for cause in over:
            await resolve_incident(
                rt.store, session, cause, "It is read again, or no longer asked for", now=now
            )
        for cause in moved:
            await _move(rt.store, session, wanted[cause], now=now)
        for finding in new:
            await open_incident(
                rt.store,
                session,
                topic=finding.topic,
                kind=finding.kind,
                scope=finding.scope,
                cause=finding.cause,
                app=finding.app,
                title=finding.title,
                text=finding.text,
                connections=finding.connections,
                detail={"entity": finding.entity},
                now=now,
            )
    return findings


async def _members(session: AsyncSession, incident_id: str) -> Sequence[str]:
    return (
        await session.scalars(
            select(col(IncidentConnection.connection_id)).where(
                col(IncidentConnection.incident_id) == incident_id,
                col(IncidentConnection.left_at).is_(None),
            )
        )
    ).all()


async def _move(store: Store, session: AsyncSession, finding: Finding, *, now: datetime) -> None:
    """Make the members of an open incident those of `finding`."""
    identifier = await find_open(session, finding.cause)
    if identifier is None:
        return
    present = set(await _members(session, identifier))
    gone = sorted(present - set(finding.connections))
    joined = [connection for connection in finding.connections if connection not in present]
    await leave(session, identifier, gone, now=now)
    await join(
        store, session, identifier, finding.topic, dict.fromkeys(joined, finding.kind), now=now
    )
