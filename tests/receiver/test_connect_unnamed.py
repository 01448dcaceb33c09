"""An earlier Makini, whose status names no connection, company or system (MAKINI "Status")."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from linekeeper.access.verify import verify_logins
from linekeeper.store.tables import Audit, Connection, PendingLogin
from sandbox import fleet
from tests.receiver.test_connect import authorize_link, link_for, log_in, through, token_of
from tests.reconnect.conftest import House, open_house

__all__ = ["open_house"]  # a fixture


@pytest.fixture
async def house(open_house: Callable[..., Awaitable[House]]) -> House:
    return await open_house(connections=12, makini={"earlier_status": True})


async def owner_at_makini(house: House, connection: Connection) -> str:
    owner = house.fleet.world.tokens.owner(await token_of(house, connection))
    return owner.key if owner is not None else ""


def at_makini(house: House, connection: Connection) -> fleet.Connection:
    known = house.fleet.world.find(connection.makini_key)
    assert known is not None
    return known


async def test_the_login_is_that_of_the_connection_asked_for(house: House) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    assert (await through(house, path, connection.makini_key)).status_code == 200
    assert (await house.connection(connection.id)).health == "healthy"
    assert await owner_at_makini(house, connection) == connection.makini_key
    assert [row.action for row in await house.rows(Audit)] == ["login.renewed"]
    assert len(await house.connections()) == 12


async def test_it_is_assumed_and_said_where_the_list_does_not_show_the_login_either(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    callback = await log_in(house, await authorize_link(house, path), connection.makini_key)
    at_makini(house, connection).connected_at = connection.created_at - timedelta(days=9)
    assert (await house.http.get(callback)).status_code == 200
    assert await owner_at_makini(house, connection) == connection.makini_key
    actions = {row.action for row in await house.rows(Audit)}
    assert actions == {"login.renewed", "login.assumed"}


async def test_another_system_of_the_customer_that_the_list_shows_keeps_its_own_pair(
    house: House,
) -> None:
    known = await house.connections()
    connection, other = next(
        (each, sibling)
        for each in known
        for sibling in known
        if each.customer_id == sibling.customer_id and each.id != sibling.id
    )
    before = await token_of(house, connection)
    _, path = await link_for(house, connection)
    assert (await through(house, path, other.makini_key)).status_code == 409
    assert await token_of(house, connection) == before
    assert await owner_at_makini(house, other) == other.makini_key


async def test_a_new_system_is_the_one_that_the_list_shows_as_just_connected(house: House) -> None:
    known = {connection.id for connection in await house.connections()}
    _, path = await link_for(house, None, system="Fiix")
    assert (await through(house, path, "new:fiix")).status_code == 200
    [made] = [each for each in await house.connections() if each.id not in known]
    assert await owner_at_makini(house, made) == made.makini_key
    await house.sweep()
    assert (await house.connection(made.id)).health == "healthy"


async def test_a_new_system_is_kept_while_the_list_does_not_show_which_one_it_is(
    house: House,
) -> None:
    known = {connection.id for connection in await house.connections()}
    second = house.fleet.world.create(
        name="Zeta - Fiix", email="it@zeta.example", provider="fiix", pending=False
    )
    _, path = await link_for(house, None, system="Fiix")
    assert (await through(house, path, "new:fiix")).status_code == 502
    [row] = await house.rows(PendingLogin)
    assert row.refresh_token is not None
    house.fleet.world.remove(second)
    assert await verify_logins(house.rt, now=row.retry_at) == 1
    assert await house.rows(PendingLogin) == []
    [made] = [each for each in await house.connections() if each.id not in known]
    assert await owner_at_makini(house, made) == made.makini_key
