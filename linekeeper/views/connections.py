"""Connections for programs and the command line: all of them, or one with what is known of it."""

from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field, col, select

from linekeeper.answers import Answer, UtcTime
from linekeeper.customers.naming import label
from linekeeper.reconcile.completeness import Completeness
from linekeeper.store.tables import (
    Connection,
    ConnectionSetting,
    Credential,
    Customer,
    Incident,
    IncidentConnection,
    Transition,
)

HISTORY = 20


class ConnectionAnswer(Answer):
    """A connection with its setup and health."""

    label: str = Field(description="`Customer · System`")
    id: str
    makini_key: str
    app: str
    name: str
    customer: str | None
    customer_id: str | None
    provider: str
    hosting: str
    tags: list[str]
    setup: str
    health: str
    evidence: str | None = Field(
        description="How strong what shows the health is: `listed`, `probed` or `read`"
    )
    health_since: UtcTime | None
    last_checked_at: UtcTime | None
    last_sync_at: UtcTime | None
    last_webhook_at: UtcTime | None
    replaced_by: str | None


class EntitySetting(Answer):
    """An entity that `workflow-configuration` set for a connection."""

    entity: str
    cadence_minutes: int | None
    keep_bodies: bool | None
    forward_to: str | None


class ConnectionDetail(ConnectionAnswer):
    """One connection as `GET /api/connections/{connection}` shows it."""

    incident: str | None = Field(description="The open incident about it")
    records: list[Completeness] = Field(
        description="Per entity how many records the source has, and how many are here"
    )
    settings: list[EntitySetting] = Field(
        description="What `workflow-configuration` set for it; empty: as its app"
    )


class HistoryStep(Answer):
    """One change of a connection's state."""

    at: UtcTime
    axis: str
    before: str
    after: str
    source: str


class ConnectionHistory(ConnectionAnswer):
    """One connection as `linekeeper connection show` has it."""

    tier: str | None
    list_status: str | None
    sync_status: str | None
    last_read_at: UtcTime | None
    last_good_at: UtcTime | None
    has_token: bool
    token_expires_at: UtcTime | None
    incidents: list[str] = Field(description="Titles of those that are open")
    history: list[HistoryStep] = Field(description=f"The last {HISTORY}, newest first")


_Answer = TypeVar("_Answer", bound=ConnectionAnswer)


def _answer(
    kind: type[_Answer], connection: Connection, customer: str | None, details: Mapping[str, Any]
) -> _Answer:
    named = label(customer, connection.provider, connection.name, connection.told_apart_by)
    columns = {
        name: getattr(connection, name) for name in kind.model_fields if hasattr(connection, name)
    }
    return kind(**{**columns, "label": named, "customer": customer, **details})


async def list_connections(
    session: AsyncSession, *, health: str | None = None
) -> list[ConnectionAnswer]:
    """Every connection (with that `health`), in the order in which they became known."""
    statement = (
        select(Connection, Customer.name)
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .order_by(col(Connection.id))
    )
    if health is not None:
        statement = statement.where(col(Connection.health) == health)
    rows = await session.execute(statement)
    return [_answer(ConnectionAnswer, connection, customer, {}) for connection, customer in rows]


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


async def detail_connection(
    session: AsyncSession,
    connection: Connection,
    *,
    incident: str | None,
    records: list[Completeness],
    settings: Mapping[str, ConnectionSetting],
) -> ConnectionDetail:
    """`connection` with its open incident, its records and its own settings."""
    own = [
        EntitySetting(**{name: getattr(row, name) for name in EntitySetting.model_fields})
        for row in settings.values()
    ]
    details = {"incident": incident, "records": records, "settings": own}
    return _answer(ConnectionDetail, connection, await _customer(session, connection), details)


async def describe_connection(session: AsyncSession, connection_id: str) -> ConnectionHistory:
    """One connection, its open incidents and its last `HISTORY` transitions, newest first."""
    connection = await session.get_one(Connection, connection_id)
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
    details = {
        "has_token": credential is not None,
        "token_expires_at": credential.expires_at if credential else None,
        "incidents": list(incidents),
        "history": [
            HistoryStep(**{name: getattr(step, name) for name in HistoryStep.model_fields})
            for step in history
        ],
    }
    return _answer(ConnectionHistory, connection, await _customer(session, connection), details)


async def _customer(session: AsyncSession, connection: Connection) -> str | None:
    return await session.scalar(
        select(Customer.name).where(col(Customer.id) == connection.customer_id)
    )
