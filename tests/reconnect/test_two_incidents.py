"""A customer with several lost logins at about the same time gets one mail that names them all."""

import asyncio

from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.reconnect.ask import advance_case
from linekeeper.store.tables import Connection, Outbox
from tests.delivering import deliver_mail
from tests.reconnect.conftest import House
from tests.reconnect.post import Post, listening, text_of
from tests.reconnect.test_ask import Opened, asking, outbox, work


async def two_lost(here: House) -> list[Connection]:
    """Two systems of one customer, each in an incident of its own; nobody has been asked yet."""
    first, second, *_ = await here.connections()
    async with here.store.write() as session:
        change = update(Connection).where(col(Connection.id) == second.id)
        await session.execute(change.values(customer_id=first.customer_id))
    for each in (first, second):
        await here.control(f"connections/{each.makini_key}/change-credentials")
    await here.sweep()
    assert len(await here.incidents()) == 2
    return [first, second]


def links(post: Post) -> list[int]:
    return [text_of(mail).count("/connect/") for mail in post.mails]


async def test_two_incidents_of_a_customer_are_one_mail(
    open_house: Opened,
) -> None:
    async with listening() as post:
        here = await asking(open_house, post.url)
        await two_lost(here)
        await work(here)
        assert links(post) == [2]
        asks = [row for row in await outbox(here, "email") if row.payload["do"] == "ask"]
        assert [row.status for row in asks] == ["sent", "superseded"]
        await here.sweep()
        await work(here)
        assert links(post) == [2]


async def test_a_mail_waits_for_the_other_case_that_is_about_to_ask(open_house: Opened) -> None:
    """The mail of the first had gone before the second case was looked at, moments later."""
    async with listening() as post:
        here = await asking(open_house, post.url)
        await two_lost(here)
        first, _ = await here.incidents()
        await advance_case(here.rt, first.id, now=utcnow())
        await deliver_mail(here.rt)
        assert not post.mails
        await advance_due_cases(here.rt)
        async with asyncio.timeout(30):
            while not post.mails:
                await deliver_mail(here.rt)
                await asyncio.sleep(0.1)
        await work(here)
        assert links(post) == [2]


async def test_a_mail_after_the_first_has_gone_answers_it_and_says_also(open_house: Opened) -> None:
    async with listening() as post:
        here = await asking(open_house, post.url)
        first, second, *_ = await here.connections()
        async with here.store.write() as session:
            change = update(Connection).where(col(Connection.id) == second.id)
            await session.execute(change.values(customer_id=first.customer_id))
        for lost in (first, second):
            await here.lose_login(lost)
            await here.sweep()
            await work(here)
        asked, also = post.mails
        assert also["In-Reply-To"] == asked["Message-ID"]
        assert str(asked["References"]) in str(also["References"])
        assert "also" not in str(asked["Subject"])
        assert str(also["Subject"]).startswith("Please also log in to ")
        assert "one more login than our last mail asked for" in text_of(also)


async def test_where_the_first_mail_is_given_up_the_second_goes(open_house: Opened) -> None:
    async with listening() as post:
        here = await asking(open_house, post.url)
        await two_lost(here)
        await advance_due_cases(here.rt)
        first, _ = await outbox(here, "email")
        async with here.store.write() as session:
            change = update(Outbox).where(col(Outbox.id) == first.id)
            await session.execute(change.values(status="dead"))
        await work(here)
        assert links(post) == [1]
