"""Who mistypes a name, or remembers a part of it, is told what was meant."""

import pytest

from linekeeper.clock import utcnow
from linekeeper.customers.find import NotFound, find_connection, find_customer
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Customer

NAMES = ("Acme", "Bolt", "Cole", "Dahl", "Eden", "Müller & Söhne Straßenbau GmbH")


@pytest.fixture
async def known(store: Store) -> Store:
    """Six customers with a system each."""
    async with store.write() as session:
        for number, name in enumerate(NAMES):
            customer = Customer(name=name, slug=f"c{number}", created_at=utcnow())
            session.add(customer)
            await session.flush()
            session.add(
                Connection(
                    app="default",
                    makini_key=f"k{number}",
                    customer_id=customer.id,
                    name=f"{name} · Maximo",
                    provider="Maximo",
                    slug=f"s{number}",
                )
            )
    return store


@pytest.mark.parametrize("wanted", ["Muller", "müller", "Straßenbau", "MULLER"])
async def test_a_part_of_a_name_with_or_without_accents_finds_it(known: Store, wanted: str) -> None:
    async with known.read() as session:
        with pytest.raises(NotFound, match="The nearest: Müller & Söhne Straßenbau GmbH"):
            await find_customer(session, wanted)
        with pytest.raises(NotFound, match="The nearest: Müller & Söhne Straßenbau GmbH · Maximo"):
            await find_connection(session, wanted)


async def test_where_nothing_comes_near_a_few_are_offered(known: Store) -> None:
    async with known.read() as session:
        with pytest.raises(NotFound, match=r"The nearest: Acme; Bolt; Cole; Dahl; Eden$"):
            await find_customer(session, "!?")
