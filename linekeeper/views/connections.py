"""Connections for the command line: all of them, or one with what happened to it."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from linekeeper.customers.naming import label
from linekeeper.store.tables import (
    Connection,
    Credential,
    Customer,
    Incident,
    IncidentConnection,
    Transition,
)

HISTORY = 20


async def list_connections(
    session: AsyncSession, *, health: str | None = None
) -> list[dict[str, Any]]:
    """Every connection (with that `health`), by customer; plain data, times aware UTC."""
    statement = (
        select(Connection, Customer.name)
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .order_by(col(Customer.name), col(Connection.name), col(Connection.makini_key))
    )
    if health is not None:
        statement = statement.where(col(Connection.health) == health)
    rows = await session.execute(statement)
    return [
        {
            "label": label(customer, connection.provider, connection.name),
            "id": connection.id,
            "makini_key": connection.makini_key,
            "app": connection.app,
            "setup": connection.setup,
            "health": connection.health,
            "evidence": connection.evidence,
            "health_since": connection.health_since,
            "last_checked_at": connection.last_checked_at,
        }
        for connection, customer in rows
    ]


async def with_predecessors(session: AsyncSession, connection_id: str) -> list[str]:
    """The connection and those whose place it took, one after the other: their history is its."""
    ids = [connection_id]
    while True:
        before = await session.scalars(
            select(Connection.id).where(
                col(Connection.replaced_by).in_(ids), col(Connection.id).not_in(ids)
            )
        )
        predecessors = list(before)
        if not predecessors:
            return ids
        ids += predecessors


async def describe_connection(session: AsyncSession, connection_id: str) -> dict[str, Any]:
    """One connection, its open incidents and its last `HISTORY` transitions, newest first."""
    connection = await session.get_one(Connection, connection_id)
    customer = (
        await session.get(Customer, connection.customer_id) if connection.customer_id else None
    )
    credential = await session.get(Credential, connection_id)
    incidents = await session.scalars(
        select(Incident.title)
        .join(IncidentConnection, col(IncidentConnection.incident_id) == col(Incident.id))
        .where(
            col(IncidentConnection.connection_id) == connection_id,
            col(IncidentConnection.left_at).is_(None),
            col(Incident.resolved_at).is_(None),
        )
    )
    history = await session.scalars(
        select(Transition)
        .where(col(Transition.connection_id).in_(await with_predecessors(session, connection_id)))
        .order_by(col(Transition.at).desc(), col(Transition.id).desc())
        .limit(HISTORY)
    )
    return {
        "label": label(customer.name if customer else None, connection.provider, connection.name),
        "id": connection.id,
        "makini_key": connection.makini_key,
        "app": connection.app,
        "name": connection.name,
        "provider": connection.provider,
        "customer": customer.name if customer else None,
        "tags": list(connection.tags),
        "hosting": connection.hosting,
        "tier": connection.tier,
        "setup": connection.setup,
        "health": connection.health,
        "health_since": connection.health_since,
        "list_status": connection.list_status,
        "sync_status": connection.sync_status,
        "evidence": connection.evidence,
        "last_read_at": connection.last_read_at,
        "last_checked_at": connection.last_checked_at,
        "last_good_at": connection.last_good_at,
        "last_sync_at": connection.last_sync_at,
        "last_webhook_at": connection.last_webhook_at,
        "has_token": credential is not None,
        "token_expires_at": credential.expires_at if credential else None,
        "incidents": list(incidents),
        "history": [
            {
                "at": step.at,
                "axis": step.axis,
                "before": step.before,
                "after": step.after,
                "source": step.source,
            }
            for step in history
        ],
    }
