"""Mail servers that take nothing, drop what they accepted, or refuse an address."""

from typing import Literal

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.store.tables import (
    Contact,
    Outbox,
)
from tests.reconnect.test_ask import Opened, asking, outbox, post, work

from .post import Post

__all__ = ["post"]  # fixtures


async def test_a_mail_server_that_takes_nothing_is_tried_again_and_operators_are_told(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    mailbox.answer = "451 try later"
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    [row] = await outbox(house, "email")
    assert (row.status, row.error) == ("pending", "the mail server answered 451")
    assert any("A mail waits" in str(row.payload) for row in await outbox(house, "slack"))
    mailbox.answer = "250 OK"
    async with house.store.write() as session:
        await session.execute(update(Outbox).values(next_attempt_at=utcnow()))
    await work(house)
    assert len(mailbox.mails) == 1


@pytest.mark.parametrize(("drops", "copies"), [("before", 1), ("after", 2)])
async def test_a_mail_server_that_accepts_and_drops_gets_it_again_under_the_same_id(
    open_house: Opened,
    post: tuple[Post, str],
    drops: Literal["before", "after"],
    copies: int,
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    mailbox.drops = drops
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    [row] = await outbox(house, "email")
    assert row.status == "pending"
    assert "the mail server can't be used" in (row.error or "")
    assert any("A mail waits" in str(row.payload) for row in await outbox(house, "slack"))
    mailbox.drops = None
    async with house.store.write() as session:
        await session.execute(update(Outbox).values(next_attempt_at=utcnow()))
    await work(house)
    assert len(mailbox.mails) == copies
    assert len({mail["Message-ID"] for mail in mailbox.mails}) == 1
    assert len({mail["References"] for mail in mailbox.mails}) == 1


async def test_an_address_nobody_has_is_given_up_and_operators_are_told(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    mailbox.refuse = "@"
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    await work(house)
    [row] = await outbox(house, "email")
    assert row.status == "dead"
    assert any("was not sent" in str(row.payload) for row in await outbox(house, "slack"))


@pytest.mark.parametrize(
    ("email", "answer"),
    [("jörg@müller.example", "250 OK"), ("ann@acme.example", "554 5.7.1 looks like spam")],
)
async def test_a_mail_the_server_can_not_take_holds_up_no_other(
    open_house: Opened, post: tuple[Post, str], email: str, answer: str
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    [first, second, *_] = {
        connection.customer_id: connection for connection in await house.connections()
    }.values()
    async with house.store.write() as session:
        of_first = (col(Contact.customer_id) == first.customer_id) & col(Contact.confirmed)
        await session.execute(update(Contact).where(of_first).values(email=email))
    mailbox.answer = answer
    await house.lose_login(first)
    await work(house)
    mailbox.answer = "250 OK"
    await house.lose_login(second)
    await work(house)
    [dead, sent] = await outbox(house, "email")
    assert (dead.status, sent.status) == ("dead", "sent")
    assert len(mailbox.mails) == 1
    said = [str(row.payload) for row in await outbox(house, "slack")]
    assert any("A mail was not sent: the mail server" in one for one in said)
    assert not any("A mail waits" in one for one in said)


async def test_of_two_contacts_the_one_a_server_can_not_take_is_named_and_the_other_told(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    async with house.store.write() as session:
        for email in ("jörg@müller.example", "ann@bücher.example"):
            session.add(Contact(customer_id=connection.customer_id, email=email))
    await house.lose_login(connection)
    await work(house)
    [row] = await outbox(house, "email")
    [mail] = mailbox.mails
    assert row.status == "sent"
    assert "ann@xn--bcher-kva.example" in mail["To"]
    assert "rg@" not in mail["To"]
    said = [str(row.payload) for row in await outbox(house, "slack")]
    assert any("Not taken for jörg@müller.example" in one for one in said)
