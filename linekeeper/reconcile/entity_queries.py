"""The state of every entity of the fleet, read from the database."""

from datetime import datetime

from sqlalchemy import select
from sqlmodel import col

from linekeeper.customers.naming import label
from linekeeper.customers.setup import ESTABLISHED
from linekeeper.makini import may_call_data
from linekeeper.reconcile.entity_failures import EntityState
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Customer, Watermark

_SYNCED = ("done", "fulldone")
"""Of Makini's words for a sync of the whole connection: those of a good end."""


async def entity_states(store: Store, *, connection_id: str | None = None) -> list[EntityState]:
    """Every entity offered by an established connection, or by this one."""
    statement = (
        select(
            col(Connection.id),
            col(Connection.app),
            col(Connection.provider),
            col(Connection.name),
            col(Connection.health),
            col(Connection.sync_status),
            col(Connection.last_sync_at),
            col(Customer.name),
            Watermark,
        )
        .join(Watermark, col(Watermark.connection_id) == col(Connection.id))
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .where(col(Connection.setup).in_(ESTABLISHED), col(Watermark.offered))
        .order_by(col(Connection.id), col(Watermark.entity))
    )
    if connection_id is not None:
        statement = statement.where(col(Connection.id) == connection_id)
    async with store.read() as session:
        rows = (await session.execute(statement)).all()
    return [
        EntityState(
            connection_id=identifier,
            label=label(customer, provider, name),
            app=app,
            entity=mark.entity,
            failure=mark.failure,
            failures=mark.failures,
            since=mark.failing_since,
            error=mark.error or "",
            listed=mark.listed,
            source_total=mark.source_total,
            inconsistent=mark.inconsistent,
            indexed=mark.indexed,
            lacking=mark.lacking,
            compared_at=mark.compared_at,
            agreed_at=mark.agreed_at,
            window_since=mark.window_since,
            unsynced=_unsynced(mark, last_sync_at if sync_status in _SYNCED else None),
            may_be_read=may_call_data(health),
        )
        for (
            identifier,
            app,
            provider,
            name,
            health,
            sync_status,
            last_sync_at,
            customer,
            mark,
        ) in rows
    ]


def _unsynced(mark: Watermark, whole_at: datetime | None) -> str | None:
    """Why Makini's sync of the entity failed; None once it, or the whole, ended well since."""
    if mark.sync_failed_at is None:
        return None
    well = [at for at in (mark.synced_at, whole_at) if at is not None]
    return None if well and max(well) > mark.sync_failed_at else mark.sync_error or ""
