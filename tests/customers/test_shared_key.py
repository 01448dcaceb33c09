"""Two apps in one house may have a connection under the same Makini key."""

import re

import pytest
from sqlmodel import col, select

from linekeeper.customers.find import NotFound, find_connection
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Customer


@pytest.mark.parametrize("wanted", ["c1", "Acme · SAP"])
async def test_what_is_to_be_given_instead_of_a_shared_key_is_found(
    store: Store, wanted: str
) -> None:
    customer = Customer(name="Acme", slug="acme")
    async with store.write() as session:
        session.add(customer)
        await session.flush()
        session.add_all(
            Connection(
                app=app,
                makini_key="c1",
                customer_id=customer.id,
                name="SAP",
                slug=f"sap-{app}",
                provider="SAP",
            )
            for app in ("default", "other")
        )
    async with store.read() as session:
        with pytest.raises(NotFound) as refused:
            await find_connection(session, wanted)
        offered = re.findall(r"app (\w+), id ([0-9a-f-]{36})", str(refused.value))
        there = await session.execute(select(col(Connection.app), col(Connection.id)))
        assert sorted(offered) == sorted(tuple(row) for row in there)
        for _, each in offered:
            assert (await find_connection(session, each)).id == each
