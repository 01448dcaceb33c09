"""A Makini whose list has only keys, while the status says an id that is something else."""

from collections.abc import Awaitable, Callable

import pytest

from linekeeper.store.tables import Connection
from tests.receiver.test_connect import link_for, through, token_of
from tests.reconnect.conftest import House, open_house

__all__ = ["open_house"]  # a fixture


@pytest.fixture
async def house(open_house: Callable[..., Awaitable[House]]) -> House:
    return await open_house(makini={"distinct_ids": True, "listed_ids": False})


def at_makini(house: House, connection: Connection) -> str:
    found = house.fleet.world.find(connection.makini_key)
    assert found is not None
    assert found.id != found.key
    return found.id


async def works(house: House, connection: Connection) -> bool:
    bearer = {"Authorization": f"Bearer {await token_of(house, connection)}"}
    answer = await house.makini.get("/api/integrations/current", headers=bearer)
    return answer.status_code == 200 and answer.json()["data"]["id"] == at_makini(house, connection)


async def test_logging_in_again_mends_the_connection_itself_each_time(house: House) -> None:
    [connection, *_] = await house.connections()
    for _ in range(2):
        await house.lose_login(connection)
        _, path = await link_for(house, connection)
        assert (await through(house, path, connection.makini_key)).status_code == 200
        for _ in range(2):
            await house.sweep()
        mended = await house.connection(connection.id)
        assert (mended.health, mended.setup) == ("healthy", "live")
        assert (mended.makini_key, mended.makini_id) == (
            connection.makini_key,
            at_makini(house, connection),
        )
        assert await works(house, mended)
    assert len(await house.connections()) == 6


async def test_another_system_is_told_from_the_one_asked_for_and_keeps_its_pair(
    house: House,
) -> None:
    connection, other, *_ = await house.connections()
    _, path = await link_for(house, connection)
    assert (await through(house, path, other.makini_key)).status_code == 409
    assert (await house.connection(other.id)).makini_id == at_makini(house, other)
    assert await works(house, other)
    assert len(await house.connections()) == 6


async def test_a_new_system_is_taken_in_by_the_key_the_list_will_go_on_with(house: House) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, None, system="Fiix")
    assert (await through(house, path, "new:fiix")).status_code == 200
    [made] = [two for two in await house.connections() if two.created_at > connection.created_at][
        -1:
    ]
    for _ in range(2):
        await house.sweep()
    made = await house.connection(made.id)
    assert (made.health, made.setup) == ("healthy", "live")
    assert made.makini_id == at_makini(house, made)
    assert await works(house, made)
    assert len(await house.connections()) == 7


async def test_a_successor_that_the_list_does_not_show_yet_is_not_taken_for_the_one_before(
    open_house: Callable[..., Awaitable[House]],
) -> None:
    """The list's keys are the status's ids here, which the first sweep has seen."""
    house = await open_house(makini={"listed_ids": False})
    [connection, *_] = await house.connections()
    await house.sweep()
    assert (await house.connection(connection.id)).makini_id == connection.makini_key
    await house.lose_login(connection)
    was = house.fleet.world.find(connection.makini_key)
    assert was is not None
    successor = house.fleet.world.create(
        name=was.name, email=was.email, provider=was.provider.slug, pending=True
    )
    successor.hidden = True
    _, path = await link_for(house, connection)
    assert (await through(house, path, successor.key)).status_code == 200
    for _ in range(2):
        old = await house.connection(connection.id)
        assert old.setup == "disconnected"
        made = await house.connection(str(old.replaced_by))
        assert (made.makini_key, made.customer_id) == (successor.key, connection.customer_id)
        await house.sweep()
    successor.hidden = False
    house.fleet.world.remove(was)
    for _ in range(2):
        await house.sweep()
    assert len(await house.connections()) == 7
    assert (await house.connection(made.id)).health == "healthy"
