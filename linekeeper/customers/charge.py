"""What the connections of a customer are charged as, when a person says so."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.credits.tariff import Charge, set_charge
from linekeeper.store import Store
from linekeeper.store.tables import Connection


async def charge_customer(
    store: Store,
    session: AsyncSession,
    customer_id: str,
    charge: Charge,
    *,
    by: str,
    now: datetime,
) -> list[str]:
    """All connections of a customer are charged as `charge`; returns what changed."""
    own = select(col(Connection.id)).where(
        col(Connection.customer_id) == customer_id, col(Connection.setup) != "disconnected"
    )
    connections = list(await session.scalars(own))
    return await set_charge(store, session, connections, charge, by=by, now=now)
