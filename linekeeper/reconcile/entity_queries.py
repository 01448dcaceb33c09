"""The state of every entity of the fleet, read from the database."""

from sqlalchemy import or_, select
from sqlmodel import col

from linekeeper.customers.naming import label
from linekeeper.customers.setup import ESTABLISHED
from linekeeper.makini import may_call_data
from linekeeper.reconcile.entity_failures import EntityState
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Customer, Watermark


async def entity_states(store: Store, *, noteworthy_only: bool = False) -> list[EntityState]:
    """Every entity offered by an established connection, or only those of which something is to be
    said: that can't be read, disagree with their own total, or list a history window."""
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
    if noteworthy_only:
        statement = statement.where(
            or_(
                col(Watermark.failure).is_not(None),
                col(Watermark.inconsistent) > 0,
                col(Watermark.window_since).is_not(None),
            )
        )
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
            window_since=mark.window_since,
            may_be_read=may_call_data(health),
        )
        for identifier, app, provider, name, health, customer, mark in rows
    ]
