"""A successor that only the list shows, and what goes on with it: the case, the webhooks."""

from collections import Counter
from datetime import datetime, timedelta

from linekeeper.clock import utcnow
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.reconcile.backfill import reconcile_window
from linekeeper.reconcile.purge import purge_disconnected
from linekeeper.reconnect.case import load_case
from linekeeper.reconnect.counts import keep_counts
from linekeeper.reconnect.process import close
from linekeeper.store.tables import (
    WebhookEvent,
)
from linekeeper.sweep.sweep import take_list
from tests.reconcile.conftest import deliver, process
from tests.reconcile.test_succession import (
    ORDERS,
    agrees,
    feed,
    house,
    keys,
    listed,
    logged_in,
    ops,
    run,
)
from tests.reconnect.conftest import House, open_house

__all__ = ["house", "open_house"]  # fixtures


async def sweep(house: House) -> None:
    await take_list(house.rt, await house.rt.app("default"), now=utcnow())


async def test_25_hours_off_the_list_and_back_is_no_new_beginning(house: House) -> None:
    [connection, _] = await house.connections()
    world, was = house.fleet.world, listed(house, connection)
    world.remove(was)
    await house.sweep()
    await house.sweep()
    assert (await house.connection(connection.id)).setup == "disconnected"
    await purge_disconnected(house.store, now=utcnow() + timedelta(hours=25))
    gone = world.change_records(was, ORDERS, delete=2, announce=False)["deleted"]
    world.change_records(was, ORDERS, change=6, announce=False)
    world.change_records(was, ORDERS, make=1, announce=False)
    world.add(was)
    await sweep(house)
    assert (await house.connection(connection.id)).setup == "live"
    for _ in range(2):
        await run(house)
    assert await ops(house) == {"updated": 6, "inserted": 1}
    await run(house, full=True)
    deleted = [c["key"] for c in await feed(house) if c["op"] == "deleted"]
    assert sorted(deleted) == sorted(gone)
    await agrees(house, connection)


async def test_a_successor_that_only_the_list_shows_inherits_as_well(house: House) -> None:
    [connection, _] = await house.connections()
    world, was = house.fleet.world, listed(house, connection)
    known = keys(house, was)
    after = world.succeed(was, "rename")
    world.change_records(after, ORDERS, change=3, announce=False)
    await sweep(house)
    await run(house)  # it is new, as far as anybody knows
    await sweep(house)
    old = await house.connection(connection.id)
    assert old.replaced_by is not None
    new = await house.connection(old.replaced_by)
    assert (new.makini_key, new.customer_id) == (after.key, connection.customer_id)
    await run(house)
    counts = Counter(c["op"] for c in await feed(house) if c["entity"] == ORDERS)
    assert counts == {"rekeyed": len(known), "updated": 3}


async def test_the_case_of_the_lost_login_goes_on_with_the_successor_and_catches_up(
    house: House,
) -> None:
    [connection, _] = await house.connections()
    await house.lose_login(connection)
    await advance_due_cases(house.rt)
    [incident] = await house.incidents()
    world, was = house.fleet.world, listed(house, connection)
    world.change_records(was, ORDERS, delete=2, announce=False)
    world.change_records(was, ORDERS, change=6, announce=False)
    world.change_records(was, ORDERS, make=1, announce=False)
    new = await logged_in(house, connection, "rename")
    case = await load_case(house.store, incident.id, now=utcnow())
    assert case is not None
    assert case.reconnect is not None
    assert [member.connection_id for member in case.members] == [new.id]
    since = datetime.fromisoformat(case.reconnect.windows[new.id])
    until = case.incident.resolved_at or utcnow()
    counts = await reconcile_window(house.rt, new.id, since)
    assert counts["recovered"] == 7
    await keep_counts(house.rt, incident.id, new.id, counts, since=since, until=until)
    sentence = await close(house.rt, incident.id, "reconnected", now=utcnow())
    assert sentence.endswith("7 records backfilled; 2 removals wait for a second complete listing")


async def test_webhooks_that_go_on_naming_the_old_connection_are_the_successors(
    house: House,
) -> None:
    [connection, _] = await house.connections()
    await house.lose_login(connection)
    new = await logged_in(house, connection, "rename")
    await run(house)
    before = await ops(house)
    system = listed(house, new)
    changed = house.fleet.world.change_records(system, ORDERS, change=3, announce=False)["changed"]
    await deliver(house.rt, connection.makini_key, changed, plural="work-orders")  # to the old URL
    await process(house.rt)
    [event] = await house.rows(WebhookEvent, WebhookEvent.url_connection == connection.makini_key)
    assert (event.status, event.connection_id) == ("processed", new.id)
    assert (await ops(house))["updated"] == before["updated"] + 3
    assert {c["connection"] for c in await feed(house)} == {new.id}
    await agrees(house, new)
