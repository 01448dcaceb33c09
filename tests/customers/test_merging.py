"""Two customers that are one: everything that belongs to the one is the other's afterwards."""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlmodel import col

from linekeeper.access.page_links import page_link, working_link
from linekeeper.clock import utcnow
from linekeeper.config import HealthPolicy
from linekeeper.customers.adopt import adopt
from linekeeper.customers.change import CustomerChange, change_customer
from linekeeper.customers.importing import import_customers
from linekeeper.incidents.conclude import conclude
from linekeeper.incidents.lifecycle import IncidentChange
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


async def unreachable(store: Store, owner: Customer, count: int, now: datetime) -> None:
    """`count` systems of `owner`, and nine times as many of nobody that answer."""
    async with store.write() as session:
        for number in range(10 * count):
            is_theirs = number < count
            session.add(
                Connection(
                    app="default",
                    makini_key=f"{owner.slug}-{number}",
                    customer_id=owner.id if is_theirs else None,
                    name=f"System {number}",
                    slug=f"{owner.slug}-{number}",
                    provider=f"Fiix {owner.slug}",
                    setup="live",
                    health="unreachable" if is_theirs else "healthy",
                    health_since=now,
                    last_answered_at=now,
                )
            )


async def concluded(store: Store, now: datetime) -> list[IncidentChange]:
    async with store.write() as session:
        return await conclude(store, session, policy=HealthPolicy(), now=now)


async def test_an_incident_of_all_its_systems_goes_on(store: Store) -> None:
    """It was said to be resolved, and another one of the same systems opened."""
    await two_customers(store)
    former, now = await customer(store, "Acme Metals Holding"), utcnow()
    await unreachable(store, former, 6, now)
    await concluded(store, now)
    await joined(store)
    said = await concluded(store, now + timedelta(minutes=5))
    async with store.read() as session:
        [incident] = await session.scalars(select(Incident))
    heir = await customer(store, "Acme")
    assert (incident.status, incident.customer_id, said) == ("open", heir.id, [])


async def test_of_two_incidents_alike_the_one_becomes_a_part_of_the_other(store: Store) -> None:
    """It was said to be resolved, while nothing of it had recovered."""
    await two_customers(store)
    former, heir = await customer(store, "Acme Metals Holding"), await customer(store, "Acme")
    now = utcnow()
    for owner in (heir, former):
        await unreachable(store, owner, 6, now)
        await concluded(store, now)
        now += timedelta(hours=2)
    async with store.read() as session:
        owners = {each.customer_id: each.id for each in await session.scalars(select(Incident))}
    assert owners.keys() == {heir.id, former.id}
    await joined(store)
    said = await concluded(store, now + timedelta(minutes=5))
    assert [(each.what, each.incident_id) for each in said if each.what != "changed"] == [
        ("merged", owners[former.id])
    ]


async def test_what_was_said_of_the_customer_without_systems_is_said_of_the_one_with_them(
    store: Store,
) -> None:
    """Its mails came in English, at UTC's working hours, and to nobody's care."""
    imported = (
        b"name,contacts,time zone,locale,owner\nAcme GmbH,jo@acme.example,Europe/Berlin,de,Ann"
    )
    await import_customers(store, imported, by="Olaf", now=utcnow())
    listed = ListedConnection(key="k", name="Acme - UpKeep", provider="UpKeep", status="Active")
    async with store.write() as session:
        await adopt(store, session, "default", [listed], now=utcnow())
    said = CustomerChange(same_as="Acme")
    await change_customer(store, "Acme GmbH", said, by="Olaf", now=utcnow())
    heir = await customer(store, "Acme")
    assert (heir.time_zone, heir.locale, heir.owner) == ("Europe/Berlin", "de", "Ann")


async def test_what_was_said_of_the_heir_stays(store: Store) -> None:
    await two_customers(store)
    for name, zone, locale in (
        ("Acme", "Europe/Paris", "fr"),
        ("Acme Metals Holding", "UTC", "de"),
    ):
        said = CustomerChange(time_zone=zone, locale=locale, owner=f"{name}'s")
        await change_customer(store, name, said, by="Olaf", now=utcnow())
    await joined(store)
    heir = await customer(store, "Acme")
    assert (heir.time_zone, heir.locale, heir.owner) == ("Europe/Paris", "fr", "Acme's")
