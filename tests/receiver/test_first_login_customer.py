"""Whose a connection is that a first login made, however Makini calls its company."""

from sqlmodel import col

from linekeeper.access.invite import invite_new
from linekeeper.clock import utcnow
from linekeeper.store.tables import Contact, Customer
from tests.receiver.test_connect import House, house, open_house, through

__all__ = ["house", "open_house"]  # fixtures


async def seen_to_begin(house: House) -> tuple[str, str, str | None]:
    """A first login in the middle of which a sweep comes by: its link, its key at Makini, and the
    customer that the sweep took in with it."""
    made = await invite_new(
        house.rt, "Zeta Steel", "UpKeep", app="default", by="tests", now=utcnow()
    )
    began = house.fleet.world.create(
        name="Zeta Werke AG - UpKeep", email="it@zeta.example", provider="upkeep", pending=True
    )
    await house.sweep()
    return made.url, began.key, (await house.connections())[-1].customer_id


async def test_a_first_login_makes_no_customer_of_makinis_name_for_the_company(
    house: House,
) -> None:
    before = await house.rows(Customer)
    made = await invite_new(
        house.rt, "Zeta Steel", "UpKeep", app="default", by="tests", now=utcnow()
    )
    answer = await through(house, made.url, "new:upkeep", username="it@zeta.example")
    assert answer.status_code == 200
    [zeta] = await house.rows(Customer, col(Customer.id).not_in([row.id for row in before]))
    assert zeta.name == "Zeta Steel"
    connection = (await house.connections())[-1]
    assert connection.customer_id == zeta.id
    contacts = await house.rows(Contact, col(Contact.customer_id) == zeta.id)
    assert {contact.email for contact in contacts} == {connection.email} - {""}


async def test_a_sweep_in_the_middle_of_a_first_login_does_not_make_it_another_customers(
    house: House,
) -> None:
    url, key, taken_in = await seen_to_begin(house)
    assert (await through(house, url, key)).status_code == 200
    connection = (await house.connections())[-1]
    [zeta] = await house.rows(Customer, col(Customer.name) == "Zeta Steel")
    assert (connection.makini_key, connection.customer_id) == (key, zeta.id)
    assert not await house.rows(Customer, col(Customer.id) == taken_in), "it was nobody's name"
    contacts = await house.rows(Contact, col(Contact.email) == "it@zeta.example")
    assert [(found.customer_id, found.confirmed) for found in contacts] == [(zeta.id, False)]


async def test_a_customer_that_somebody_has_seen_to_stays_though_its_login_was_anothers(
    house: House,
) -> None:
    url, key, taken_in = await seen_to_begin(house)
    async with house.rt.store.write() as session:
        (await session.get_one(Customer, taken_in)).owner = "Petra"
    assert (await through(house, url, key)).status_code == 200
    assert (await house.connections())[-1].customer_id != taken_in
    assert await house.rows(Customer, col(Customer.id) == taken_in)


async def test_what_another_customer_connects_meanwhile_stays_theirs(house: House) -> None:
    made = await invite_new(
        house.rt, "Zeta Steel", "UpKeep", app="default", by="tests", now=utcnow()
    )
    other = await invite_new(house.rt, "Omega", "UpKeep", app="default", by="tests", now=utcnow())
    answer = await through(house, other.url, "new:upkeep", username="it@omega.example")
    assert answer.status_code == 200
    key = (await house.connections())[-1].makini_key
    assert (await through(house, made.url, key)).status_code == 409
