"""Customers of whom somebody can be mailed now: what they were not asked for is asked then."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.outbox.events import request_reconnects
from linekeeper.outbox.queue import enqueue
from linekeeper.store import Store
from linekeeper.store.engine import chunked
from linekeeper.store.tables import Connection, Contact, Incident, IncidentConnection

_LOST = "reauthorization_required"


async def ask_reachable(
    store: Store, session: AsyncSession, customers: Collection[str], *, now: datetime
) -> None:
    """Have the open cases of lost logins of `customers` looked at, in the caller's transaction.

    Who was asked already isn't asked again.
    """
    incidents: set[str] = set()
    for batch in chunked(sorted(customers), 5_000):
        incidents |= set(
            await session.scalars(
                select(col(Incident.id))
                .join(IncidentConnection, col(IncidentConnection.incident_id) == col(Incident.id))
                .join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
                .where(
                    col(Connection.customer_id).in_(batch),
                    col(IncidentConnection.left_at).is_(None),
                    col(Incident.kind) == _LOST,
                    col(Incident.resolved_at).is_(None),
                )
            )
        )
    await enqueue(store, session, request_reconnects(sorted(incidents)), now=now)


async def with_contacts(session: AsyncSession, customers: Sequence[str]) -> set[str]:
    """Those of `customers` of whom somebody can be mailed."""
    customers_found: set[str] = set()
    for chunk in chunked(customers, 5_000):
        rows = await session.execute(
            select(col(Contact.customer_id), func.count())
            .where(
                col(Contact.customer_id).in_(chunk),
                col(Contact.confirmed),
            )
            .group_by(col(Contact.customer_id))
        )
        customers_found |= {row[0] for row in rows}
    return customers_found
