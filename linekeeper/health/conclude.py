"""Incidents brought in line with the fleet, in the caller's transaction.

What is decided comes from the database alone, so that a sweep that was killed is completed by the
next one, and two processes that conclude one after the other open nothing twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import and_, func, insert, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import HealthPolicy
from linekeeper.connect.channel import attend
from linekeeper.customers.naming import label
from linekeeper.customers.setup import ESTABLISHED
from linekeeper.health.causes import Scope, Trouble
from linekeeper.health.incidents import Open, Past, Wanted, decide
from linekeeper.health.judge import is_trouble
from linekeeper.notices import words
from linekeeper.notices.announce import announce
from linekeeper.notices.changes import IncidentChange, What
from linekeeper.notices.text import duration
from linekeeper.store import Store, new_id
from linekeeper.store.outbox import enqueue
from linekeeper.store.tables import Connection, Customer, Incident, IncidentConnection

_LOCK = 4_217_002  # PostgreSQL's advisory lock: one process concludes at a time
_TOPIC = "health"


@dataclass(frozen=True, slots=True)
class _Who:
    label: str
    app: str
    provider: str
    setup: str
    health: str
    answered: bool
    since: datetime


async def conclude(
    store: Store, session: AsyncSession, *, policy: HealthPolicy, now: datetime
) -> list[IncidentChange]:
    """Open, change, merge and resolve incidents as the fleet's health asks for; announce it all."""
    if not store.is_sqlite:
        await session.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    opened = await _open_incidents(session)
    fleet = await _concerned(session, [one for each in opened for one in each.members])
    troubles = [
        Trouble(identifier, who.app, who.provider, who.health, who.since)
        for identifier, who in fleet.items()
        if is_trouble(who.setup, who.health, answered=who.answered)
    ]
    if not opened and not troubles:
        return []
    placed = {member for each in opened for member in each.members}
    homeless = [one.connection_id for one in troubles if one.connection_id not in placed]
    since = now - timedelta(minutes=policy.reopen_minutes)
    decision = decide(
        troubles,
        opened,
        past=await _past(session, homeless, since),
        totals=await _totals(session),
        policy=policy,
        now=now,
        suspects=await _suspects(session),
    )
    before = {one.id: one for one in opened}
    changes: list[IncidentChange] = []
    # First everybody leaves, then everybody joins: a connection is in one incident at a time.
    for wanted in decision.wanted:
        if wanted.id is not None and wanted.id in before:
            gone = before[wanted.id].members.keys() - wanted.members.keys()
            await _leave(session, wanted.id, sorted(gone), now)
        for loser in wanted.merged:
            await _leave(session, loser, sorted(before[loser].members), now)
            await _resolve(session, loser, now)
            changes.append(IncidentChange(loser, "merged", "Part of a wider incident"))
    for identifier in decision.resolved:
        await _leave(session, identifier, sorted(before[identifier].members), now)
        await _resolve(session, identifier, now)
        changes.append(
            IncidentChange(identifier, "resolved", _resolved_text(before[identifier], now))
        )
    for wanted in decision.wanted:
        changes.append(await _bring(session, wanted, before.get(wanted.id or ""), fleet, now))
    await announce(store, session, changes, now=now)
    await enqueue(store, session, attend(change.incident_id for change in changes), now=now)
    return changes


async def _open_incidents(session: AsyncSession) -> list[Open]:
    incidents = (
        await session.scalars(
            select(Incident)
            .where(col(Incident.resolved_at).is_(None), col(Incident.topic) == _TOPIC)
            .order_by(col(Incident.id))
        )
    ).all()
    rows = await session.execute(
        select(
            col(IncidentConnection.incident_id),
            col(IncidentConnection.connection_id),
            col(IncidentConnection.kind),
        ).where(col(IncidentConnection.left_at).is_(None), col(IncidentConnection.topic) == _TOPIC)
    )
    members: dict[str, dict[str, str]] = {}
    for incident_id, connection_id, kind in rows:
        members.setdefault(incident_id, {})[connection_id] = kind
    return [
        Open(
            id=one.id,
            scope=_scope(one.scope),
            kind=one.kind,
            app=one.app,
            provider=one.provider,
            opened_at=one.opened_at,
            members=members.get(one.id, {}),
        )
        for one in incidents
    ]


def _scope(text: str) -> Scope:
    return cast("Scope", text)  # written by us from a Scope


async def _concerned(session: AsyncSession, members: Sequence[str]) -> dict[str, _Who]:
    """Every connection that may be in trouble, and every member of an incident."""
    heard_of = or_(
        col(Connection.health) != "unknown", col(Connection.last_answered_at).is_not(None)
    )
    who: dict[str, _Who] = {}
    portions = [members[start : start + 10_000] for start in range(0, len(members), 10_000)]
    for portion in portions or [[]]:
        rows = await session.execute(
            select(
                col(Connection.id),
                col(Customer.name),
                col(Connection.provider),
                col(Connection.name),
                col(Connection.app),
                col(Connection.setup),
                col(Connection.health),
                col(Connection.last_answered_at),
                col(Connection.health_since),
            )
            .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
            .where(
                or_(
                    and_(col(Connection.health) != "healthy", heard_of),
                    col(Connection.id).in_(portion),
                )
            )
        )
        who |= {
            row[0]: _Who(
                label(row[1], row[2], row[3]),
                row[4],
                row[2],
                row[5],
                row[6],
                row[7] is not None,
                row[8],
            )
            for row in rows
        }
    return who


async def _past(
    session: AsyncSession, connections: Sequence[str], since: datetime
) -> dict[str, Past]:
    past: dict[str, Past] = {}
    for start in range(0, len(connections), 10_000):
        rows = await session.execute(
            select(
                col(IncidentConnection.connection_id),
                col(Incident.id),
                col(Incident.scope),
                col(IncidentConnection.kind),
                col(Incident.resolved_at),
            )
            .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
            .where(
                col(IncidentConnection.connection_id).in_(connections[start : start + 10_000]),
                col(IncidentConnection.topic) == _TOPIC,
                col(Incident.resolved_at) >= since,
            )
            .order_by(col(IncidentConnection.left_at), col(IncidentConnection.id))
        )
        past |= {
            row[0]: Past(row[1], _scope(row[2]), row[3], row[4])
            for row in rows
            if row[4] is not None
        }
    return past


async def _totals(session: AsyncSession) -> dict[tuple[str, str], int]:
    rows = await session.execute(
        select(col(Connection.app), col(Connection.provider), func.count())
        .where(col(Connection.setup).in_(ESTABLISHED))
        .group_by(col(Connection.app), col(Connection.provider))
    )
    return {(row[0], row[1]): row[2] for row in rows}


async def _suspects(session: AsyncSession) -> dict[tuple[str, str], int]:
    """Connections that don't answer but are not in trouble yet, by (app, provider)."""
    rows = await session.execute(
        select(col(Connection.app), col(Connection.provider), func.count())
        .where(
            col(Connection.setup).in_(ESTABLISHED),
            col(Connection.suspect).is_(True),
            col(Connection.health).in_(("healthy", "degraded")),
        )
        .group_by(col(Connection.app), col(Connection.provider))
    )
    return {(row[0], row[1]): row[2] for row in rows}


async def _leave(
    session: AsyncSession, incident_id: str, members: Sequence[str], now: datetime
) -> None:
    for start in range(0, len(members), 10_000):
        await session.execute(
            update(IncidentConnection)
            .where(
                col(IncidentConnection.incident_id) == incident_id,
                col(IncidentConnection.connection_id).in_(members[start : start + 10_000]),
                col(IncidentConnection.left_at).is_(None),
            )
            .values(left_at=now)
            .execution_options(synchronize_session=False)
        )


async def _resolve(session: AsyncSession, incident_id: str, now: datetime) -> None:
    await session.execute(
        update(Incident)
        .where(col(Incident.id) == incident_id)
        .values(status="resolved", resolved_at=now)
        .execution_options(synchronize_session=False)
    )


async def _bring(
    session: AsyncSession,
    wanted: Wanted,
    known: Open | None,
    fleet: Mapping[str, _Who],
    now: datetime,
) -> IncidentChange:
    """Make the incident's row and members what `wanted` says; returns what people are told."""
    values: dict[str, Any] = {
        "kind": wanted.kind,
        "scope": wanted.scope,
        "cause": wanted.cause,
        "provider": wanted.provider,
        "title": _title(wanted, fleet, len(await _ever(session, wanted))),
    }
    before = dict(known.members) if known else {}
    if wanted.id is None:
        wanted.id = new_id()
        session.add(Incident(id=wanted.id, app=wanted.app, opened_at=now, **values))
        await session.flush()
    else:
        if wanted.reopen:
            values |= {
                "status": "open",
                "resolved_at": None,
                "acknowledged_at": None,
                "acknowledged_by": None,
            }
        await session.execute(
            update(Incident)
            .where(col(Incident.id) == wanted.id)
            .values(**values)
            .execution_options(synchronize_session=False)
        )
    joined = [one for one in wanted.members if one not in before]
    if joined:
        reported = await _reported(session, wanted.id, joined)
        await session.execute(
            insert(IncidentConnection),
            [
                {
                    "id": new_id(),
                    "incident_id": wanted.id,
                    "connection_id": one,
                    "topic": _TOPIC,
                    "kind": wanted.members[one],
                    "joined_at": now,
                    "reported_kind": reported.get(one),
                }
                for one in joined
            ],
        )
    for one, kind in wanted.members.items():
        if one in before and before[one] != kind:
            await session.execute(
                update(IncidentConnection)
                .where(
                    col(IncidentConnection.incident_id) == wanted.id,
                    col(IncidentConnection.connection_id) == one,
                    col(IncidentConnection.left_at).is_(None),
                )
                .values(kind=kind)
                .execution_options(synchronize_session=False)
            )
    if known is None:
        what: What = "reopened" if wanted.reopen else "opened"
        said = words.headline(wanted.kind) or wanted.kind.replace("_", " ")
        return IncidentChange(wanted.id, what, f"{what.capitalize()}: {said}")
    return IncidentChange(wanted.id, "changed", _changed_text(wanted, before, fleet))


async def _reported(
    session: AsyncSession, incident_id: str, members: Sequence[str]
) -> dict[str, str | None]:
    """What runs were red for, of those who were in this incident before: that is no news."""
    rows = await session.execute(
        select(col(IncidentConnection.connection_id), col(IncidentConnection.reported_kind))
        .where(
            col(IncidentConnection.incident_id) == incident_id,
            col(IncidentConnection.connection_id).in_(members[:10_000]),
            col(IncidentConnection.left_at).is_not(None),
        )
        .order_by(col(IncidentConnection.left_at))
    )
    return {row[0]: row[1] for row in rows}


async def _ever(session: AsyncSession, wanted: Wanted) -> set[str]:
    """All who are or were in the incident: its title doesn't shrink as they recover."""
    if wanted.id is None or wanted.scope == "connection":
        return set(wanted.members)
    before = await session.scalars(
        select(col(IncidentConnection.connection_id)).where(
            col(IncidentConnection.incident_id) == wanted.id
        )
    )
    return {*before, *wanted.members}


def _title(wanted: Wanted, fleet: Mapping[str, _Who], count: int) -> str:
    if wanted.scope == "connection":
        return fleet[next(iter(wanted.members))].label
    where = wanted.provider if wanted.scope == "provider" else f"app {wanted.app}"
    return f"{where or 'unnamed provider'} · {count} connection{'s' if count != 1 else ''}"


def _changed_text(wanted: Wanted, before: Mapping[str, str], fleet: Mapping[str, _Who]) -> str:
    parts = []
    joined = [one for one in wanted.members if one not in before]
    gone = [one for one in before if one not in wanted.members]
    well = [one for one in gone if one in fleet and fleet[one].health == "healthy"]
    left = [one for one in gone if one not in well]
    turned = [one for one, kind in wanted.members.items() if before.get(one, kind) != kind]
    for verb, group in (("Joined", joined), ("Recovered", well), ("Left", left)):
        if group:
            parts.append(f"{verb}: {_names(group, fleet)}")
    parts += [
        f"{fleet[one].label} is now {wanted.members[one].replace('_', ' ')}" for one in turned
    ]
    if wanted.merged:
        parts.append(f"one root cause: {len(wanted.merged)} incidents merged into this one")
    return "; ".join(parts) or "changed"


def _names(group: Iterable[str], fleet: Mapping[str, _Who]) -> str:
    names = sorted(fleet[one].label if one in fleet else one for one in group)
    rest = len(names) - 5
    return ", ".join(names[:5]) + (f" and {rest} more" if rest > 0 else "")


def _resolved_text(one: Open, now: datetime) -> str:
    return f"Resolved after {duration(now - one.opened_at)}"
