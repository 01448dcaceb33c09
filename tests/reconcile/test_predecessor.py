"""A connection that has a successor is over, though Makini goes on listing it."""

from linekeeper.store.tables import Outbox, WebhookEvent
from tests.receiver.test_connect import link_for, through
from tests.reconcile.conftest import deliver, process
from tests.reconcile.test_succession import (
    ORDERS,
    agrees,
    feed,
    house,
    listed,
    logged_in,
    run,
)
from tests.reconcile.test_succession_listed import sweep
from tests.reconnect.conftest import House, open_house

__all__ = ["house", "open_house"]


async def test_what_the_list_goes_on_showing_stays_replaced(house: House) -> None:
    [connection, _] = await house.connections()
    world, was = house.fleet.world, listed(house, connection)
    await house.lose_login(connection)
    new = await logged_in(house, connection, "rename")
    await run(house)
    before = len(await house.incidents())
    world.add(was)
    for _ in range(3):
        await sweep(house)
    old = await house.connection(connection.id)
    assert (old.setup, old.replaced_by) == ("disconnected", new.id)
    assert old.health != "healthy"
    assert len(await house.incidents()) == before
    system = listed(house, new)
    changed = world.change_records(system, ORDERS, change=3, announce=False)["changed"]
    await deliver(house.rt, connection.makini_key, changed, plural="work-orders")
    await process(house.rt)
    [event] = await house.rows(WebhookEvent, WebhookEvent.url_connection == connection.makini_key)
    assert (event.status, event.connection_id) == ("processed", new.id)
    await agrees(house, new)


async def test_who_logs_in_to_the_old_one_again_has_it_back(house: House) -> None:
    [connection, _] = await house.connections()
    world, was = house.fleet.world, listed(house, connection)
    await house.lose_login(connection)
    new = await logged_in(house, connection, "rename")
    await run(house)
    world.add(was)
    await sweep(house)
    _, path = await link_for(house, new)
    answer = await through(house, path, connection.makini_key)
    old = await house.connection(connection.id)
    assert answer.status_code == 200, answer.text
    await sweep(house)
    old = await house.connection(connection.id)
    assert (await house.connection(new.id)).replaced_by == old.id
    assert (old.setup, old.replaced_by) == ("live", None)
    await sweep(house)
    assert (await house.connection(new.id)).replaced_by == old.id


async def test_what_was_replaced_is_back_once_its_successor_is_gone_at_makini(house: House) -> None:
    """Whoever reverts at Makini says so to nobody: its records are `rekeyed` back."""
    [connection, _] = await house.connections()
    world, was = house.fleet.world, listed(house, connection)
    await house.lose_login(connection)
    new = await logged_in(house, connection, "rename")
    await run(house)
    world.add(was)
    world.restore_credentials(was)
    await sweep(house)
    world.remove(listed(house, new))
    before, mailed = (
        len(await feed(house)),
        len(await house.rows(Outbox, Outbox.channel == "email")),
    )
    await house.sweep()
    known = {each.id for each in await house.incidents()}
    await house.sweep()
    assert {each.id for each in await house.incidents()} == known
    old = await house.connection(connection.id)
    assert (old.setup, old.health, old.replaced_by) == ("live", "healthy", None)
    assert (await house.connection(new.id)).replaced_by == old.id
    await run(house)
    since = (await feed(house))[before:]
    assert {change["op"] for change in since} == {"rekeyed"}
    assert {change["connection"] for change in since} == {old.id}
    await agrees(house, old)
    assert [each for each in await house.incidents() if each.resolved_at is None] == []
    assert len(await house.rows(Outbox, Outbox.channel == "email")) == mailed


async def test_a_successor_that_was_not_listed_for_a_while_takes_its_place_again(
    house: House,
) -> None:
    """Also while Makini goes on listing the one it replaced."""
    [connection, _] = await house.connections()
    world, was = house.fleet.world, listed(house, connection)
    await house.lose_login(connection)
    new = await logged_in(house, connection, "rename")
    await run(house)
    successor = listed(house, new)
    world.restore_credentials(was)
    world.add(was)
    world.remove(successor)
    for _ in range(2):
        await house.sweep()
    assert (await house.connection(connection.id)).setup == "live"
    await run(house)
    before = len(await feed(house))
    world.add(successor)
    for _ in range(3):
        await house.sweep()
    await run(house)
    ours, old = await house.connection(new.id), await house.connection(connection.id)
    assert (ours.setup, ours.health, ours.replaced_by) == ("live", "healthy", None)
    assert (old.setup, old.replaced_by) == ("disconnected", new.id)
    assert {change["op"] for change in (await feed(house))[before:]} == {"rekeyed"}
    await agrees(house, ours)


async def test_two_that_take_turns_at_makini_are_compared_each_time(house: House) -> None:
    [connection, _] = await house.connections()
    world, was = house.fleet.world, listed(house, connection)
    await house.lose_login(connection)
    new = await logged_in(house, connection, "rename")
    await run(house)
    world.restore_credentials(was)
    turns = [(listed(house, new), was), (was, listed(house, new))] * 2
    for gone, back in turns:
        before = len(await feed(house))
        world.add(back)
        world.remove(gone)
        for _ in range(2):
            await house.sweep()
        await run(house)
        ours = next(each for each in await house.connections() if each.makini_key == back.key)
        assert (ours.setup, ours.health, ours.replaced_by) == ("live", "healthy", None)
        since = (await feed(house))[before:]
        assert {change["op"] for change in since} == {"rekeyed"}
        assert {change["connection"] for change in since} == {ours.id}
        await agrees(house, ours)


async def test_equal_metadata_is_remembered_and_makes_the_new_one_its_successor(
    house: House,
) -> None:
    """Though a colleague logged in, under another name."""
    [connection, _] = await house.connections()
    world, was = house.fleet.world, listed(house, connection)
    was.user_metadata = [{"key": "account", "value": "4711"}]
    await sweep(house)
    await house.lose_login(connection)
    world.remove(was)
    new = world.create(name="Plant 2 · X", email="jo@other.example", provider=connection.provider)
    new.user_metadata = list(was.user_metadata)
    _, path = await link_for(house, connection)
    answer = await through(house, path, new.key)
    assert answer.status_code == 200, answer.text
    old = await house.connection(connection.id)
    assert old.replaced_by is not None
    assert (await house.connection(old.replaced_by)).makini_key == new.key


async def test_one_that_was_connected_anew_twice_is_succeeded_by_the_last(house: House) -> None:
    """Before two lists had shown that the first one is gone, the second one was, too."""
    [connection, _] = await house.connections()
    world, was = house.fleet.world, listed(house, connection)
    await run(house)
    before = len(await feed(house))
    between = world.succeed(was, "rename")
    await house.sweep()
    last = world.succeed(between, "rename")
    for _ in range(3):
        await house.sweep()
    ours = {each.makini_key: each for each in await house.connections()}
    assert (ours[last.key].setup, ours[last.key].health) == ("live", "healthy")
    assert {ours[was.key].replaced_by, ours[between.key].replaced_by} == {ours[last.key].id}
    assert [each.kind for each in await house.incidents() if each.resolved_at is None] == []
    await run(house)
    since = (await feed(house))[before:]
    assert {change["op"] for change in since} == {"rekeyed"}
    await agrees(house, ours[last.key])


async def test_two_that_were_there_side_by_side_have_no_successor_in_one(house: House) -> None:
    [connection, _] = await house.connections()
    world, was = house.fleet.world, listed(house, connection)
    twin = world.create(name=was.name, email=was.email, provider=connection.provider)
    await house.sweep()
    world.remove(twin)
    world.succeed(was, "rename")
    for _ in range(4):
        await house.sweep()
    assert {each.replaced_by for each in await house.connections()} == {None}
