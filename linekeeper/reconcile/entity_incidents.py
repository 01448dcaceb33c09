"""Incidents of entities that can't be read: opened, kept and resolved as one complete set."""

from datetime import datetime

from sqlalchemy import select
from sqlmodel import col

from linekeeper.customers.naming import label
from linekeeper.customers.setup import ESTABLISHED
from linekeeper.incidents.findings import Finding, apply_findings
from linekeeper.makini import may_call_data
from linekeeper.reconcile.entity_failures import EntityState, find_failures, goes_on
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.connection_settings import configured, load_settings
from linekeeper.store.tables import Connection, Customer, Watermark
from linekeeper.store.types import from_row

_SYNCED = ("done", "fulldone")
"""Makini's words for the good end of a sync of the whole connection."""


async def entity_states(store: Store, *, connection_id: str | None = None) -> list[EntityState]:
    """Every entity offered by an established connection, or by this one."""
    statement = (
        select(
            col(Connection.id),
            col(Connection.app),
            col(Connection.provider),
            col(Connection.name),
            col(Connection.told_apart_by),
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
        from_row(
            EntityState,
            mark,
            connection_id=identifier,
            label=label(customer, provider, name, told_apart_by),
            app=app,
            since=mark.failing_since,
            error=mark.error or "",
            unsynced=_unsynced(mark, last_sync_at if sync_status in _SYNCED else None),
            may_be_read=may_call_data(health),
        )
        for (
            identifier,
            app,
            provider,
            name,
            told_apart_by,
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


TOPIC = "entities"


async def settle_entities(rt: Runtime, *, now: datetime) -> list[Finding]:
    """Open the incidents there should be about entities, and resolve the others.

    Whatever health a connection has, it is not touched. While nothing of a connection may be read
    (its circuit is open) what is known of its entities stays as it is.
    """
    apps = (await rt.configuration()).apps
    known = [state for state in await entity_states(rt.store) if state.app in apps]
    async with rt.store.read() as session:
        settings = await load_settings(session, {state.connection_id for state in known})
    states = [
        state
        for state in known
        if state.entity in configured(apps[state.app], settings.get(state.connection_id)).entities
    ]
    closed = {state.connection_id for state in states if not state.may_be_read}
    findings = find_failures([state for state in states if state.may_be_read])
    async with rt.store.write() as session:
        await apply_findings(
            rt.store,
            session,
            TOPIC,
            findings,
            now=now,
            undecided=closed,
            apps=apps,
            goes_on=goes_on,
        )
    return findings
