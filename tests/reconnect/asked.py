"""Customers who were asked to log in, or are to set a system up."""

from typing import Any

from linekeeper.access.links import make_link
from linekeeper.clock import utcnow
from linekeeper.store.tables import Connection, ConnectLink
from tests.reconnect.conftest import House
from tests.reconnect.test_ask import Opened, asking, work


async def asked(open_house: Opened, url: str) -> tuple[House, Connection]:
    """Such a house, and a connection of it whose customer was asked to log in."""
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    return house, connection


async def link_to_set_up(house: House, connection: Connection, **more: Any) -> ConnectLink:
    """A link by which the connection's customer sets up another system."""
    async with house.store.write() as session:
        return await make_link(
            session,
            app=connection.app,
            connection_id=None,
            customer_id=connection.customer_id,
            system="Fiix",
            by="petra",
            now=utcnow(),
            **more,
        )
