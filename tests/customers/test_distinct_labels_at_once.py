"""What tells a customer's systems of one product apart is right at once, without a sweep."""

from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.customers.change import CustomerChange, change_customer
from linekeeper.customers.succession import succeed
from linekeeper.reconnect.disconnect import disconnect
from linekeeper.store.tables import Connection
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures
NORTH, SOUTH = "Bolt · UpKeep · North", "Bolt · UpKeep · South"


async def told_apart_by(house: House, name: str) -> str | None:
    [connection] = await house.rows(Connection, col(Connection.name) == name)
    return str(connection.told_apart_by) if connection.told_apart_by else None


async def made(house: House, *names: str) -> list[Connection]:
    for name in names:
        house.fleet.world.create(name=name, email="it@bolt.example", provider="upkeep")
    await house.sweep()
    rows = await house.rows(Connection, col(Connection.name).in_(names))
    return sorted(rows, key=lambda row: names.index(row.name))


async def test_after_one_is_disconnected_by_hand(house: House) -> None:
    _, south = await made(house, NORTH, SOUTH)
    assert await told_apart_by(house, NORTH) == "North"
    await disconnect(house.rt, south.id, confirm=south.makini_key, by="Petra")
    assert await told_apart_by(house, NORTH) is None


async def test_after_one_took_the_place_of_the_other(house: House) -> None:
    north, south = await made(house, NORTH, SOUTH)
    async with house.store.write() as session:
        await succeed(
            house.store,
            session,
            south.id,
            north.id,
            source="reconnect",
            message="the same system",
            now=utcnow(),
        )
    assert await told_apart_by(house, NORTH) is None


async def test_after_two_customers_are_known_to_be_one(house: House) -> None:
    [here, there] = await made(house, "Bolt · UpKeep · North", "Volt · UpKeep · South")
    assert await told_apart_by(house, here.name) is None
    change = CustomerChange(same_as="Bolt")
    await change_customer(house.store, "Volt", change, by="Petra", now=utcnow())
    assert await told_apart_by(house, here.name) == "North"
    assert await told_apart_by(house, there.name) is not None
