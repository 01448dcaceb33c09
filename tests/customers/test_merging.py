"""Two customers that are one: everything that belongs to the one is the other's afterwards."""

from datetime import timedelta

from sqlalchemy import select
from sqlmodel import col

from linekeeper.access.page_links import page_link, working_link
from linekeeper.clock import utcnow
from linekeeper.config import HealthPolicy
from linekeeper.customers.adopt import adopt
from linekeeper.customers.change import CustomerChange, change_customer
from linekeeper.incidents.conclude import conclude
from linekeeper.incidents.windows import resting_until
from linekeeper.makini import ListedConnection
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Customer, Incident, Silence


async def two_customers(store: Store) -> None:
    listed = [
        ListedConnection(
            key=f"k-{name}", name=f"{name} - UpKeep", provider="UpKeep", status="Active"
        )
        for name in ("Acme", "Acme Metals Holding")
    ]
    async with store.write() as session:
        await adopt(store, session, "default", listed, now=utcnow())


async def customer(store: Store, name: str) -> Customer:
    async with store.read() as session:
        return (await session.scalars(select(Customer).where(col(Customer.name) == name))).one()


async def joined(store: Store) -> None:
    change = CustomerChange(same_as="Acme")
    await change_customer(store, "Acme Metals Holding", change, by="Olaf", now=utcnow())


async def test_a_page_that_the_customer_was_sent_goes_on_working(store: Store) -> None:
    await two_customers(store)
    former = await customer(store, "Acme Metals Holding")
    async with store.write() as session:
        link = await page_link(session, former.id, by="Olaf", now=utcnow())
    await joined(store)
    async with store.read() as session:
        found = await working_link(session, link.id)
    assert found is not None
    assert found[1].name == "Acme"


async def test_a_maintenance_window_goes_on(store: Store) -> None:
    await two_customers(store)
    former, now = await customer(store, "Acme Metals Holding"), utcnow()
    async with store.write() as session:
        session.add(
            Silence(
                scope="customer",
                subject=former.id,
                label=former.name,
                starts_at=now,
                ends_at=now + timedelta(hours=2),
                by="Olaf",
            )
        )
    await joined(store)
    async with store.read() as session:
        ids = list(await session.scalars(select(col(Connection.id))))
        assert sorted(await resting_until(session, ids, utcnow())) == sorted(ids)


async def test_an_incident_of_all_its_systems_goes_on(store: Store) -> None:
    """It was said to be resolved, and another one of the same systems opened."""
    await two_customers(store)
    former, now = await customer(store, "Acme Metals Holding"), utcnow()
    async with store.write() as session:
        for number in range(12):
            session.add(
                Connection(
                    app="default",
                    makini_key=f"down-{number}",
                    customer_id=former.id if number < 6 else None,
                    name=f"System {number}",
                    slug=f"system-{number}",
                    provider="Fiix",
                    setup="live",
                    health="unreachable" if number < 6 else "healthy",
                    health_since=now,
                    last_answered_at=now,
                )
            )
        await session.flush()
        await conclude(store, session, policy=HealthPolicy(), now=now)
    await joined(store)
    async with store.write() as session:
        said = await conclude(store, session, policy=HealthPolicy(), now=now + timedelta(minutes=5))
        [incident] = await session.scalars(select(Incident))
    heir = await customer(store, "Acme")
    assert (incident.status, incident.customer_id, said) == ("open", heir.id, [])
