"""A link outlives the connection it was made for: it asks for the login of its successor."""

import pytest

from linekeeper.clock import utcnow
from linekeeper.customers.find import find_connection
from linekeeper.store.tables import Connection
from linekeeper.workflow_configuration.decide import WantedConfiguration
from linekeeper.workflow_configuration.service import configure, connection_of_run, load_standing
from sandbox.fleet import Connection as Listed
from tests.receiver.test_connect import link_for, through
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures


def connect_anew(house: House, key: str, *, pending: bool = False) -> Listed:
    """The system of `key` is connected anew at Makini, and `key` is gone there."""
    was = house.fleet.world.find(key)
    assert was is not None
    house.fleet.world.remove(was)
    return house.fleet.world.create(
        name=was.name, email=was.email, provider=was.provider.slug, pending=pending
    )


async def succeeded(house: House, connection: Connection) -> Connection:
    """What took its place, as two lists tell."""
    successor = connect_anew(house, connection.makini_key)
    await house.sweep()
    await house.sweep()
    held = await house.connection(connection.id)
    assert held.replaced_by is not None
    heir = await house.connection(held.replaced_by)
    assert heir.makini_key == successor.key
    return heir


@pytest.mark.parametrize("is_same", [False, True])
async def test_a_login_by_the_link_of_a_predecessor_is_the_successors(
    house: House, is_same: bool
) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    heir = await succeeded(house, connection)
    assert "there is nothing you have to do" in (await house.http.get(path)).text
    await house.lose_login(heir)
    assert "has not accepted the stored login" in (await house.http.get(path)).text
    key = heir.makini_key if is_same else connect_anew(house, heir.makini_key, pending=True).key
    assert (await through(house, path, key)).status_code == 200
    assert {incident.status for incident in await house.incidents()} == {"resolved"}
    last = heir
    if not is_same:
        replaced_by = (await house.connection(heir.id)).replaced_by
        assert replaced_by is not None
        last = await house.connection(replaced_by)
    assert last.makini_key == key
    assert (await house.connection(last.id)).health == "healthy"
    assert (await house.connection(connection.id)).replaced_by == heir.id


async def test_what_a_run_configures_goes_over_to_the_successor(house: House) -> None:
    """The settings did, so the run verified a connection without any, and could not say which."""
    [connection, *_] = await house.connections()
    async with house.store.read() as session:
        named = await find_connection(session, connection.id)
    wanted = WantedConfiguration(["eam/sites"], 30, None)
    await configure(house.rt, named, wanted, by="Olaf", run_id="a-run", now=utcnow())
    heir = await succeeded(house, connection)
    async with house.store.read() as session:
        assert await connection_of_run(session, "a-run") == heir.id
    standing = await load_standing(house.rt, heir.id)
    assert standing.summary == "eam/sites; read every 30 minutes"
