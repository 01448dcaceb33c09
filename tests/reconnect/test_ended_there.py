"""A connection that somebody ends at Makini is no lost login: its customer is asked for nothing."""

import asyncio
from datetime import timedelta

import pytest
from msgspec import to_builtins
from msgspec.structs import replace
from sqlalchemy import update
from sqlmodel import col

from linekeeper.access.expiry import renew_ending
from linekeeper.clock import utcnow
from linekeeper.health.evidence import Health, load
from linekeeper.makini import TokenPair
from linekeeper.reconnect.ending import announce_ending
from linekeeper.store.tables import Connection, ConnectLink, Credential, Outbox
from linekeeper.sweep.batch import probe_batch
from linekeeper.tokens.stored import save_tokens
from tests.health.test_absence import minutes_pass
from tests.reconcile.conftest import deliver, process
from tests.reconnect.conftest import House
from tests.reconnect.post import Post
from tests.reconnect.test_ask import Opened, asking, outbox, post, work
from tests.reconnect.test_check import said

__all__ = ["post"]  # a fixture


def end(house: House, connection: Connection, *, still_listed: bool = False) -> None:
    """Somebody ends it at Makini: no token of it works, and none is minted."""
    world = house.fleet.world
    ended = world.connections[connection.makini_key]
    if still_listed:
        world.tokens.kill(ended)
        world.faults.ended = connection.makini_key
    else:
        world.remove(ended)


async def report_refused_call(house: House, connection: Connection) -> None:
    """The product says that Makini refuses its calls; a probe follows at once."""
    async with house.store.write() as session:  # nobody has just looked
        await session.execute(update(Connection).values(last_checked_at=None))
    before = load((await house.connection(connection.id)).judged).asked_at
    answer = await house.http.post(
        f"/api/connections/{connection.id}/observations",
        json={"status": 401, "code": "AUTHENTICATION_FAILED"},
        headers=await house.key("observations:write"),
    )
    assert answer.status_code == 202, answer.text
    async with asyncio.timeout(60):
        while load((await house.connection(connection.id)).judged).asked_at == before:
            await asyncio.sleep(0.05)


async def nobody_was_asked(house: House, mailbox: Post) -> None:
    await work(house)
    assert mailbox.mails == []
    assert await outbox(house, "email") == []
    assert await house.rows(ConnectLink) == []


async def swept_until_it_is_over(house: House, connection: Connection) -> None:
    """As long as two lists need to say that it is gone, which are minutes apart."""
    for _ in range(3):
        await house.sweep()
        await minutes_pass(house.rt)
    assert (await house.connection(connection.id)).setup == "disconnected"


async def asked_long_ago(house: House, connection: Connection, *, minutes: float = 15) -> None:
    """Since a quarter of an hour Makini says that it doesn't know it."""
    async with house.store.write() as session:
        row = await session.get_one(Connection, connection.id)
        judged = load(row.judged)
        assert judged.denied_since is not None
        since = judged.denied_since - timedelta(minutes=minutes)
        row.judged = to_builtins(replace(judged, denied_since=since))


async def never_answered(house: House, connection: Connection) -> None:
    """It came into the books a quarter of an hour ago, and no call of it was answered."""
    async with house.store.write() as session:
        row = await session.get_one(Connection, connection.id)
        row.health, row.health_since = "unknown", utcnow() - timedelta(minutes=15)
        row.judged = to_builtins(
            replace(load(row.judged), health=Health.unknown, own=Health.unknown)
        )


async def test_a_call_that_is_refused_before_the_list_lacks_it_asks_no_customer(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    connection, *others = await house.connections()
    end(house, connection)
    await report_refused_call(house, connection)
    assert (await house.connection(connection.id)).health == "unknown"
    await nobody_was_asked(house, mailbox)
    await swept_until_it_is_over(house, connection)
    assert [incident.kind for incident in await house.incidents()][-1] == "disconnected"
    await nobody_was_asked(house, mailbox)
    assert {(await house.connection(one.id)).health for one in others} == {"healthy"}


async def test_nor_does_a_webhook_whose_record_is_read_before_the_list_lacks_it(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    end(house, connection)
    await deliver(house.rt, connection.makini_key, ["a"])
    await process(house.rt)
    assert (await house.connection(connection.id)).health == "unknown"
    await nobody_was_asked(house, mailbox)
    await swept_until_it_is_over(house, connection)
    await nobody_was_asked(house, mailbox)


async def test_nor_while_a_list_that_lags_behind_still_shows_it(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    end(house, connection, still_listed=True)
    for _ in range(2):
        await house.sweep()
        assert (await house.connection(connection.id)).health == "unknown"
        await nobody_was_asked(house, mailbox)
    house.fleet.world.connections.pop(connection.makini_key)
    await asked_long_ago(house, connection)  # not so long as the list lacks it
    await swept_until_it_is_over(house, connection)
    await nobody_was_asked(house, mailbox)


async def test_whom_every_list_still_shows_ten_minutes_later_is_asked(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    end(house, connection, still_listed=True)
    await house.sweep()
    await asked_long_ago(house, connection)
    await house.sweep()
    await work(house)
    assert (await house.connection(connection.id)).health == "reauthorization_required"
    assert len(mailbox.mails) == 1
    await house.sweep()  # and so it stays
    assert (await house.connection(connection.id)).health == "reauthorization_required"


async def test_where_makini_mints_no_tokens_at_all_a_lost_login_is_asked_for_at_once(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    """An account may answer 404 to whatever asks for a token; its list says who is there."""
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    async with house.store.write() as session:
        await session.execute(update(Credential).values(minted=False))
    end(house, connection, still_listed=True)
    await report_refused_call(house, connection)
    await work(house)
    assert (await house.connection(connection.id)).health == "reauthorization_required"
    assert len(mailbox.mails) == 1


@pytest.mark.parametrize("still_listed", [False, True])
async def test_makinis_word_that_its_login_is_lost_is_checked_first(
    open_house: Opened, post: tuple[Post, str], still_listed: bool
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    end(house, connection, still_listed=still_listed)
    await said(house, connection.makini_key)
    await nobody_was_asked(house, mailbox)
    assert (await house.connection(connection.id)).health == "unknown"


async def test_while_the_list_cannot_be_read_nobody_is_asked(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    end(house, connection)
    house.fleet.world.faults.admin_list = "500"
    await report_refused_call(house, connection)
    await nobody_was_asked(house, mailbox)
    await asked_long_ago(house, connection, minutes=60)
    app = await house.rt.app("default")
    await probe_batch(house.rt, app, [connection.id], started=utcnow(), last_try=True)
    await nobody_was_asked(house, mailbox)
    house.fleet.world.faults.admin_list = ""
    await swept_until_it_is_over(house, connection)
    await nobody_was_asked(house, mailbox)


async def test_nor_where_nothing_of_it_was_known_before(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    """Universe 13064: the customer was mailed half a minute after somebody ended it."""
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    await never_answered(house, connection)
    end(house, connection)
    house.fleet.world.faults.admin_list = "500"
    await report_refused_call(house, connection)
    await nobody_was_asked(house, mailbox)


async def test_its_login_is_not_announced_as_ending(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    async with house.store.write() as session:
        pair = TokenPair("acc_old", "ref_old", utcnow() + timedelta(days=2), minted=False)
        await save_tokens(house.store, session, {connection.id: pair}, now=utcnow())
    end(house, connection)
    await renew_ending(house.rt, now=utcnow())
    assert await announce_ending(house.rt, now=utcnow()) == 0
    await nobody_was_asked(house, mailbox)
    assert not await house.rows(Outbox, col(Outbox.dedupe_key).startswith("slack:say:expiry"))
