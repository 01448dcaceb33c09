"""One customer changed by the form: only what is given, by the rules of the import."""

import pytest
from sqlalchemy import select
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.customers.change import BadChange, CustomerChange, change_customer
from linekeeper.customers.find import NotFound
from linekeeper.store import Store
from linekeeper.store.tables import Audit, Contact, Customer


@pytest.fixture
async def acme(store: Store) -> Customer:
    async with store.write() as session:
        customer = Customer(name="Acme Metals", slug="acme-metals", created_at=utcnow())
        session.add(customer)
        await session.flush()
        session.add(Contact(customer_id=customer.id, email="old@acme.example"))
    return customer


async def test_what_is_given_changes_and_the_rest_stays(store: Store, acme: Customer) -> None:
    change = CustomerChange(
        contacts="Ann <ann@acme.example>; bob@acme.example",
        remove_contacts="OLD@acme.example",
        time_zone="europe/berlin",
        critical="yes",
    )
    name, changed = await change_customer(store, "acme metals", change, by="Petra", now=utcnow())
    assert (name, len(changed)) == ("Acme Metals", 5)
    async with store.read() as session:
        row = await session.get_one(Customer, acme.id)
        assert (row.time_zone, row.critical, row.locale, row.owner) == (
            "Europe/Berlin",
            True,
            "en",
            None,
        )
        mails = set(await session.scalars(select(col(Contact.email))))
        assert mails == {"ann@acme.example", "bob@acme.example"}
        [audited] = await session.scalars(select(Audit))
        assert (audited.by, audited.subject) == ("Petra", acme.id)


async def test_the_same_again_changes_nothing_and_is_no_entry_in_the_audit(
    store: Store, acme: Customer
) -> None:
    change = CustomerChange(owner="Petra", contacts="ann@acme.example")
    await change_customer(store, "Acme Metals", change, by="x", now=utcnow())
    _, changed = await change_customer(store, acme.id, change, by="x", now=utcnow())
    assert changed == []
    async with store.read() as session:
        assert len(list(await session.scalars(select(Audit)))) == 1


@pytest.mark.parametrize(
    "change",
    [
        CustomerChange(time_zone="Mars/Olympus"),
        CustomerChange(contacts="nobody"),
        CustomerChange(critical="perhaps"),
        CustomerChange(remove_contacts="stranger@acme.example"),
        CustomerChange(owner="x", locale="\0"),
    ],
)
async def test_what_makes_no_sense_changes_nothing(
    store: Store, acme: Customer, change: CustomerChange
) -> None:
    with pytest.raises(BadChange):
        await change_customer(store, "Acme Metals", change, by="x", now=utcnow())
    async with store.read() as session:
        assert list(await session.scalars(select(Audit))) == []
        assert (await session.get_one(Customer, acme.id)).owner is None


async def test_a_customer_nobody_knows_is_told_the_nearest(store: Store, acme: Customer) -> None:
    with pytest.raises(NotFound, match="Acme Metals"):
        await change_customer(store, "Acme Metls", CustomerChange(), by="x", now=utcnow())
