"""The state of every entity of the fleet, read from the database."""

from sqlalchemy import select
from sqlmodel import col

from linekeeper.customers.naming import label
from linekeeper.customers.setup import ESTABLISHED
from linekeeper.makini import may_call_data
from linekeeper.reconcile.entity_failures import EntityState
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Customer, Watermark


async def entity_states(store: Store, *, connection_id: str | None = None) -> list[EntityState]:
    """Every entity offered by an established connection, or by this one."""
    statement = (
        select(
            col(Connection.id),
            col(Connection.app),
            col(Connection.provider),
            col(Connection.name),
            col(Connection.health),
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
            may_be_read=may_call_data(health),
        )
        for identifier, app, provider, name, health, customer, mark in rows
    ]
