"""The open incident that a connection is in."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.incidents.conclude_queries import TOPIC
from linekeeper.store.tables import Incident, IncidentConnection


async def incident_of(
    session: AsyncSession, connection_id: str, *, kind: str | None = None
) -> str | None:
    """The open incident of the connection; of `kind` alone, where one is given.

    That of its health goes before others, of which the first that was opened is taken.
    """
    statement = (
        select(col(Incident.id))
        .join(IncidentConnection, col(IncidentConnection.incident_id) == col(Incident.id))
        .where(
            col(IncidentConnection.connection_id) == connection_id,
            col(IncidentConnection.left_at).is_(None),
            col(Incident.resolved_at).is_(None),
        )
        .order_by(col(Incident.topic) != TOPIC, col(Incident.opened_at), col(Incident.id))
        .limit(1)
    )
    if kind is not None:
        statement = statement.where(col(IncidentConnection.kind) == kind)
    incident_id: str | None = await session.scalar(statement)
    return incident_id
