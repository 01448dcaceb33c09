"""Somebody logged in by the link of a login that ends; then the pair of before is found refused."""

from datetime import timedelta

from sqlalchemy import update
from sqlmodel import col

from linekeeper.access.links import link_url
from linekeeper.access.signing import load_signer
from linekeeper.clock import utcnow
from linekeeper.outbox.queue import enqueue
from linekeeper.reconnect.ask import advance_case
from linekeeper.reconnect.mails import mail
from linekeeper.store.tables import Connection, ConnectLink, Outbox, PendingLogin
from tests.receiver.test_connect import link_for
from tests.reconnect.conftest import House
from tests.reconnect.post import Post
from tests.reconnect.test_ask import Opened, asking, next_weekday_noon, post, work
from tests.reconnect.test_kept_login_mails import log_in_while_away
from tests.reconnect.working_clock import at

__all__ = ["post"]  # a fixture


async def lost_and_looked_at(house: House, connection: Connection) -> str:
    await house.lose_login(connection)
    await work(house)
    [incident] = [each for each in await house.incidents() if each.resolved_at is None]
    assert incident.kind == "reauthorization_required"
    return str(incident.id)


async def test_who_has_just_logged_in_is_not_asked_until_an_hour_has_gone_by(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    """Universe 34354: a login kills the pair of before, and it could not be verified yet."""
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    await log_in_while_away(house, connection, path)
    await house.control(f"connections/{connection.makini_key}/come-online")
    assert len(await house.rows(PendingLogin)) == 1
    incident = await lost_and_looked_at(house, connection)
    assert mailbox.mails == []

    async with house.store.write() as session:
        await session.execute(
            update(PendingLogin).values(received_at=utcnow() - timedelta(minutes=61))
        )
    await advance_case(house.rt, incident, now=utcnow())
    await work(house)
    [mail] = mailbox.mails
    assert connection.provider in mail["Subject"]


async def test_a_mail_that_waited_is_not_sent_to_who_has_logged_in_meanwhile(
    open_house: Opened, post: tuple[Post, str]
) -> None:
    """The mail server took nothing for a while; the operator passed the link on by telephone."""
    mailbox, url = post
    house = await asking(open_house, url)
    [connection, *_] = await house.connections()
    mailbox.answer = "451 not now"
    incident = await lost_and_looked_at(house, connection)
    [link] = await house.rows(ConnectLink)
    path = link_url(await load_signer(house.store), "", link.id)
    await log_in_while_away(house, connection, path)
    await house.control(f"connections/{connection.makini_key}/come-online")
    mailbox.answer = "250 OK"
    await mails_are_tried(house)
    assert mailbox.mails == []

    async with house.store.write() as session:
        earlier = {"received_at": utcnow() - timedelta(minutes=61)}
        await session.execute(update(PendingLogin).values(earlier))
    await mails_are_tried(house)
    assert len(mailbox.mails) == 1  # as who was not to be asked before is, an hour later
    assert connection.customer_id is not None
    async with house.store.write() as session:
        reminder = mail(incident, 1, connection.customer_id, "remind", "1")
        await enqueue(house.store, session, [reminder], now=utcnow())
    with at(next_weekday_noon(utcnow() + timedelta(days=1))):
        await mails_are_tried(house)
    assert len(mailbox.mails) == 1


async def mails_are_tried(house: House) -> None:
    for _ in range(3):
        async with house.store.write() as session:
            of_mail = (col(Outbox.channel) == "email", col(Outbox.status) == "pending")
            await session.execute(update(Outbox).where(*of_mail).values(next_attempt_at=utcnow()))
        await work(house)
