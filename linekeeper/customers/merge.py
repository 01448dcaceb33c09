"""Two customers turned out to be one: everything of the one goes over to the other."""

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.store.modes import apply_rules, hand_over_rule
from linekeeper.store.tables import Connection, ConnectLink, Contact, Customer, Implementation


async def merge_customer(session: AsyncSession, customer: Customer, heir: Customer) -> None:
    """`heir` takes over what belongs to `customer`, its name too, in the caller's transaction.

    The next connection that Makini lists under either name is the heir's.
    """
    for owned in (Connection, ConnectLink):
        await session.execute(
            update(owned)
            .where(col(owned.customer_id) == customer.id)
            .values(customer_id=heir.id)
            .execution_options(synchronize_session=False)
        )
    await hand_over_rule(session, "customer", customer.id, heir.id)
    owned_now = select(col(Connection.id)).where(col(Connection.customer_id) == heir.id)
    await apply_rules(session, list(await session.scalars(owned_now)))
    for implementation in await session.scalars(
        select(Implementation).where(col(Implementation.customer_id) == customer.id)
    ):
        implementation.customer_id = heir.id
        key = implementation.key.replace(customer.id, heir.id)
        taken = select(col(Implementation.id)).where(col(Implementation.key) == key)
        if await session.scalar(taken) is None:  # else: both have one of these systems
            implementation.key = key
    await session.flush()
    contacts = (
        await session.scalars(
            select(Contact).where(col(Contact.customer_id).in_((customer.id, heir.id)))
        )
    ).all()
    own = {contact.email.lower(): contact for contact in contacts if contact.customer_id == heir.id}
    for contact in contacts:
        if contact.customer_id == heir.id:
            continue
        if (known := own.get(contact.email.lower())) is None:
            contact.customer_id = heir.id
        else:
            known.confirmed = known.confirmed or contact.confirmed
            known.name = known.name or contact.name
            await session.delete(contact)
    heir.aliases = [*heir.aliases, customer.name, *customer.aliases]
    heir.hosting, heir.tier = heir.hosting or customer.hosting, heir.tier or customer.tier
    heir.critical = heir.critical or customer.critical
    await session.flush()
    await session.execute(delete(Customer).where(col(Customer.id) == customer.id))
