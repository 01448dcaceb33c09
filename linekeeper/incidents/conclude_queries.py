"""What incidents are concluded from: those that are open, and whoever is or was in trouble."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy import and_, bindparam, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.naming import label
from linekeeper.customers.setup import ESTABLISHED
from linekeeper.health.judge import is_trouble
from linekeeper.incidents.decide import DISCONNECTED, Open, Past, Scope
from linekeeper.store.engine import chunked
from linekeeper.store.tables import (
    AppState,
    Connection,
    Customer,
    Incident,
    IncidentConnection,
)

TOPIC = "health"


@dataclass(frozen=True, slots=True)
class Who:
    """A connection, as far as incidents are about it."""

    label: str
    app: str
    provider: str
    setup: str
    health: str
    answered: bool
    since: datetime
    disappeared_at: datetime | None = None
    removed_at: datetime | None = None
    """When its app was taken out of the settings."""

    @property
    def trouble(self) -> str | None:
        """The kind of incident it needs; None where nothing is wrong."""
        if self.removed_at is not None:
            return None
        if self.disappeared_at is not None:
            return DISCONNECTED
        return self.health if is_trouble(self.setup, self.health, answered=self.answered) else None


_OPEN = (
    select(
        col(Incident.id),
        col(Incident.scope),
        col(Incident.kind),
        col(Incident.app),
        col(Incident.provider),
        func.coalesce(col(Incident.reopened_at), col(Incident.opened_at)).label("since"),
    )
    .where(col(Incident.resolved_at).is_(None), col(Incident.topic) == TOPIC)
    .order_by(col(Incident.id))
)
_MEMBERS = select(
    col(IncidentConnection.incident_id),
    col(IncidentConnection.connection_id),
    col(IncidentConnection.kind),
).where(col(IncidentConnection.left_at).is_(None), col(IncidentConnection.topic) == TOPIC)
_CONCERNED = (
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
        # Replaced by a new login, nothing of it is missed.
        case((col(Connection.replaced_by).is_(None), col(Connection.disappeared_at))),
        col(AppState.removed_at),
    )
    .outerjoin(AppState, col(AppState.app) == col(Connection.app))
    .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
    .where(
        or_(
            and_(
                col(Connection.health) != "healthy",
                or_(
                    col(Connection.health) != "unknown",
                    col(Connection.last_answered_at).is_not(None),
                ),
            ),
            col(Connection.disappeared_at).is_not(None),
            col(Connection.id).in_(bindparam("members", expanding=True)),
        )
    )
)
_ELSEWHERE = (
    select(col(IncidentConnection.connection_id), col(Incident.kind), col(Incident.opened_at))
    .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
    .where(
        col(IncidentConnection.connection_id).in_(bindparam("connections", expanding=True)),
        col(IncidentConnection.left_at).is_(None),
        col(Incident.resolved_at).is_(None),
    )
    .order_by(col(Incident.opened_at), col(Incident.id))
)
_PAST = (
    select(
        col(IncidentConnection.connection_id),
        col(Incident.id),
        col(Incident.scope),
        col(IncidentConnection.kind),
        col(Incident.resolved_at),
    )
    .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
    .where(
        col(IncidentConnection.connection_id).in_(bindparam("connections", expanding=True)),
        col(IncidentConnection.topic) == TOPIC,
        col(Incident.resolved_at) >= bindparam("since"),
    )
    .order_by(col(IncidentConnection.left_at), col(IncidentConnection.id))
)
_IS_SUSPECT = and_(
    col(Connection.suspect).is_(True), col(Connection.health).in_(("healthy", "degraded"))
)
_TOTALS = (
    select(
        col(Connection.app),
        col(Connection.provider),
        func.count(),
        func.sum(case((_IS_SUSPECT, 1), else_=0)),
    )
    .where(col(Connection.setup).in_(ESTABLISHED))
    .group_by(col(Connection.app), col(Connection.provider))
)
"""Built once: building them takes longer than running them."""


async def open_incidents(session: AsyncSession) -> list[Open]:
    """What is open about connections' health, with who is in it now."""
    incidents = (await session.execute(_OPEN)).all()
    members: dict[str, dict[str, str]] = {}
    for incident_id, connection_id, kind in await session.execute(_MEMBERS):
        members.setdefault(incident_id, {})[connection_id] = kind
    return [
        Open(
            id=incident.id,
            scope=_scope(incident.scope),
            kind=incident.kind,
            app=incident.app,
            provider=incident.provider,
            opened_at=incident.since,
            members=members.get(incident.id, {}),
        )
        for incident in incidents
    ]


def _scope(text: str) -> Scope:
    return cast("Scope", text)  # written by us from a Scope


async def concerned(session: AsyncSession, members: Sequence[str]) -> dict[str, Who]:
    """Every connection that may be in trouble, and every member of an incident."""
    who: dict[str, Who] = {}
    portions = [members[start : start + 10_000] for start in range(0, len(members), 10_000)]
    for portion in portions or [[]]:
        rows = await session.execute(_CONCERNED, {"members": list(portion)})
        for identifier, customer, provider, name, app, setup, health, answered_at, *times in rows:
            who[identifier] = Who(
                label(customer, provider, name),
                app,
                provider,
                setup,
                health,
                answered_at is not None,
                *times,
            )
    return who


async def open_kinds(
    session: AsyncSession, connections: Sequence[str]
) -> dict[str, list[tuple[str, datetime]]]:
    """What is open about each of `connections`, of whichever topic: its kind, and since when."""
    memberships: dict[str, list[tuple[str, datetime]]] = {}
    for portion in chunked(connections, 10_000):
        for row in await session.execute(_ELSEWHERE, {"connections": portion}):
            memberships.setdefault(row[0], []).append((row[1], row[2]))
    return memberships


async def past_incidents(
    session: AsyncSession, connections: Sequence[str], since: datetime
) -> dict[str, Past]:
    """The last incident of each of `connections` that was resolved since."""
    past: dict[str, Past] = {}
    for batch in chunked(connections, 10_000):
        rows = await session.execute(_PAST, {"connections": batch, "since": since})
        past |= {
            row[0]: Past(row[1], _scope(row[2]), row[3], row[4])
            for row in rows
            if row[4] is not None
        }
    return past


async def totals(
    session: AsyncSession,
) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], int]]:
    """How many established connections there are, by (app, provider); and how many are suspect.

    Those don't answer, but are not in trouble yet.
    """
    rows = (await session.execute(_TOTALS)).all()
    counts = {(app, provider): count for app, provider, count, _ in rows}
    return counts, {(app, provider): suspect for app, provider, _, suspect in rows if suspect}
