"""A Makini whose list has only keys, while the status says an id that is something else."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.access.verify import verify_logins
from linekeeper.clock import utcnow
from linekeeper.store.tables import Audit, Connection, ConnectLink, IncidentEntry, PendingLogin
from sandbox import fleet
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
    was, successor = unlisted_successor(house, connection)
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


def unlisted_successor(
    house: House, connection: Connection
) -> tuple[fleet.Connection, fleet.Connection]:
    """The connection at Makini, and one that takes its place and is not in Makini's list yet."""
    was = house.fleet.world.find(connection.makini_key)
    assert was is not None
    successor = house.fleet.world.create(
        name=was.name, email=was.email, provider=was.provider.slug, pending=True
    )
    successor.hidden = True
    return was, successor


async def logged_in_anew(house: House) -> tuple[Connection, fleet.Connection]:
    """A connection whose status's id is known, and another one that its customer has logged in to
    since, which fits it and which Makini's list does not show yet."""
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    assert (await through(house, path, connection.makini_key)).status_code == 200
    assert (await house.connection(connection.id)).makini_id == at_makini(house, connection)
    await house.lose_login(connection)
    _, successor = unlisted_successor(house, connection)
    _, path = await link_for(house, connection)
    answer = await through(house, path, successor.key)
    assert answer.status_code == 502
    assert "Your login is kept" in answer.text
    assert len(await house.rows(PendingLogin)) == 1
    return connection, successor


async def test_a_connections_own_status_tells_its_id_before_anybody_logs_in(house: House) -> None:
    """So that the first login that is lost is recognised by it."""
    connections = await house.connections()
    for connection in connections:
        assert connection.makini_id == at_makini(house, connection) != connection.makini_key
    await house.lose_login(connections[0])
    _, successor = unlisted_successor(house, connections[0])
    _, path = await link_for(house, connections[0])
    assert (await through(house, path, successor.key)).status_code == 502
    assert await house.rows(PendingLogin)


async def test_a_successor_whose_key_the_list_does_not_show_yet_is_waited_for(
    house: House,
) -> None:
    """The status's new id says nothing of its key: the pair is kept until a new key fits."""
    connection, successor = await logged_in_anew(house)
    await verify_logins(house.rt, now=utcnow() + timedelta(minutes=2))
    assert (await house.connection(connection.id)).health == "reauthorization_required"
    successor.hidden = False
    was = house.fleet.world.find(connection.makini_key)
    assert was is not None
    house.fleet.world.remove(was)
    await verify_logins(house.rt, now=utcnow() + timedelta(minutes=20))
    for _ in range(2):
        await house.sweep()
    old = await house.connection(connection.id)
    made = await house.connection(str(old.replaced_by))
    assert (made.makini_key, made.health) == (successor.key, "healthy")
    assert await works(house, made)
    assert await house.rows(PendingLogin) == []


async def test_a_new_id_for_which_no_new_key_comes_is_the_connections_own_in_the_end(
    house: House,
) -> None:
    connection, successor = await logged_in_anew(house)
    async with house.store.write() as session:
        before = utcnow() - timedelta(minutes=16)
        await session.execute(update(PendingLogin).values(received_at=before))
        lost = await session.get_one(Connection, connection.id)  # before that login, as it was
        lost.judged = lost.judged | {"lost_at": (before - timedelta(minutes=1)).isoformat()}
        [incident] = await house.incidents()
        await session.execute(update(ConnectLink).values(incident_id=incident.id))
    await verify_logins(house.rt, now=utcnow() + timedelta(minutes=2))
    taken = await house.connection(connection.id)
    assert (taken.health, taken.makini_id) == ("healthy", successor.id)
    assert len(await house.rows(Audit, col(Audit.action) == "login.assumed")) == 1
    said = await house.rows(IncidentEntry, col(IncidentEntry.text).contains("by a new id"))
    assert "taken for the same connection" in said[-1].text
    assert await house.rows(PendingLogin) == []
