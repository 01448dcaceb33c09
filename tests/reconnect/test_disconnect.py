"""Disconnecting, while somebody else is at the same rows."""

import asyncio

from sqlalchemy import select
from sqlmodel import col

from linekeeper.credits.queries import lock_ledger
from linekeeper.reconnect.disconnect import disconnect
from linekeeper.store.tables import Connection
from tests.reconnect.conftest import House
from tests.waiting import somebody_waits


async def test_disconnecting_waits_for_the_ledger_before_it_holds_the_connection(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    async with house.store.write() as session:
        await lock_ledger(house.store, session)
        ending = asyncio.create_task(
            disconnect(house.rt, connection.id, confirm=connection.makini_key, by="Petra")
        )
        await somebody_waits(house.store)
        free = select(Connection).where(col(Connection.id) == connection.id)
        assert await session.scalar(free.with_for_update(nowait=True)) is not None
    await ending
    assert (await house.connection(connection.id)).setup == "disconnected"
