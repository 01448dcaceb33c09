"""Tells operators what became of a login: in its incident's thread, else by a message."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.customers.naming import label
from linekeeper.incidents.announce import announce, said_about, say
from linekeeper.incidents.lifecycle import IncidentChange
from linekeeper.store import Store
from linekeeper.store.tables import Connection, ConnectLink, Customer


async def announce_login(
    store: Store, session: AsyncSession, link: ConnectLink, what: str, text: str, *, now: datetime
) -> None:
    """Announce `text` of the login that `link` asks for.

    A link of no incident, as for a first login, has messages of its own: each `what` once.
    """
    if link.incident_id is not None:
        said = f"{link.system or 'The system'}: {text}"[:500]
        change = IncidentChange(link.incident_id, "changed", said)
        await announce(store, session, [change], now=now)
        return
    customer_id, named = link.customer_id, link.system
    if link.connection_id is not None:
        connection = await session.get_one(Connection, link.connection_id)
        customer_id, named = connection.customer_id, named or connection.name
    customer = await session.get(Customer, customer_id) if customer_id else None
    said = f"{label(customer.name if customer else None, named, '', None) or 'A login'}: {text}"[
        :500
    ]
    about = said_about("login", customer_id=customer_id, connection_id=link.connection_id)
    await say(store, session, f"login:{link.id}:{what}", said, now, about=about)
