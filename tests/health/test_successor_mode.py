"""A connection that may take an observed one's place is not managed before that is known."""

from collections.abc import Awaitable, Callable

from sqlmodel import col, select

from linekeeper.access.modes import standing_of
from linekeeper.clock import utcnow
from linekeeper.store import new_id
from linekeeper.store.modes import apply_rules
from linekeeper.store.tables import Connection, Credential, ModeRule
from tests.reconnect.conftest import House, open_house

__all__ = ["open_house"]  # a fixture


async def observed(house: House, connection: Connection) -> None:
    async with house.store.write() as session:
        session.add(
            ModeRule(
                id=new_id(),
                scope="connection",
                subject=connection.id,
                label=connection.name,
                mode="observe",
                by="tests",
                at=utcnow(),
            )
        )
        await session.flush()
        await apply_rules(session)


async def minted(house: House, connection_id: str) -> bool:
    async with house.store.read() as session:
        own = col(Credential.connection_id) == connection_id
        return await session.scalar(select(Credential).where(own)) is not None


async def test_no_token_is_minted_of_what_may_succeed_an_observed_connection(
    open_house: Callable[..., Awaitable[House]],
) -> None:
    house = await open_house(connections=2, is_read=True)
    [connection, other] = await house.connections()
    await observed(house, connection)
    was = house.fleet.world.find(connection.makini_key)
    assert was is not None
    house.fleet.world.succeed(was, "rename")
    for _ in range(3):
        await house.sweep()
        [new] = [
            each for each in await house.connections() if each.id not in (connection.id, other.id)
        ]
        assert new.mode == "observe"
        assert not await minted(house, new.id)
    standing = await standing_of(house.rt, new.makini_key)
    assert standing.mode == "observe"
    assert standing.mode_by == "the rule for a connection whose place it may have taken"


async def test_what_came_beside_an_observed_connection_that_is_listed_again_is_as_its_app(
    open_house: Callable[..., Awaitable[House]],
) -> None:
    house = await open_house(connections=2, is_read=True)
    [connection, other] = await house.connections()
    await observed(house, connection)
    was = house.fleet.world.find(connection.makini_key)
    assert was is not None
    house.fleet.world.succeed(was, "rename")
    await house.sweep()
    house.fleet.world.add(was)
    await house.sweep()
    [new] = [each for each in await house.connections() if each.id not in (connection.id, other.id)]
    assert new.mode is None
    assert (await house.connection(connection.id)).mode == "observe"
