"""The state of every entity of the fleet, read from the database."""

from sqlalchemy import select
from sqlmodel import col

from linekeeper.customers.naming import label
from linekeeper.customers.setup import ESTABLISHED
from linekeeper.makini import may_call_data
from linekeeper.reconcile.entity_failures import EntityState
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Customer, Watermark


async def entity_states(store: Store, *, failing_only: bool = False) -> list[EntityState]:
    """Every entity offered by an established connection, or only those that can't be read."""
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
    if failing_only:
        statement = statement.where(col(Watermark.failure).is_not(None))
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
            may_be_read=may_call_data(health),
        )
        for identifier, app, provider, name, health, customer, mark in rows
    ]
