"""Why a customer whose login is lost is asked for none: the mode of its connection."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.modes import subject_of
from linekeeper.config import Configuration
from linekeeper.customers.naming import label
from linekeeper.store.modes import Rule, app_of, deciding, load_rules
from linekeeper.store.tables import Connection, Customer, Incident, IncidentConnection

_MOST = 20
_LOST = "reauthorization_required"


async def why_unasked(
    session: AsyncSession, configuration: Configuration, incident: Incident
) -> tuple[str, ...]:
    """A sentence for each connection of an open incident whose customer isn't asked, or mailed."""
    app = configuration.apps.get(incident.app)
    if app is None or incident.kind != _LOST or incident.resolved_at is not None:
        return ()
    rows = await session.execute(
        select(Connection, col(Customer.name))
        .join(IncidentConnection, col(IncidentConnection.connection_id) == col(Connection.id))
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .where(
            col(IncidentConnection.incident_id) == incident.id,
            col(IncidentConnection.left_at).is_(None),
        )
        .order_by(col(IncidentConnection.id))
        .limit(_MOST)
    )
    rules = await load_rules(session)
    found = []
    for connection, customer in rows:
        held = app_of(app, connection)
        by_mode, by_notify = deciding(rules, subject_of(connection))
        name = label(customer, connection.provider, connection.name)
        if not held.manages:
            why = _reason(by_mode, app.name)
            found.append(f"{name}: nobody is asked to log in, for it is in mode observe by {why}")
        elif not held.notify_customers:
            why = _reason(by_notify, app.name)
            found.append(f"{name}: its customer is not written to, by {why}")
    return tuple(found)


def _reason(rule: Rule | None, app: str) -> str:
    return rule.reason if rule is not None else f"the settings of app {app}"
