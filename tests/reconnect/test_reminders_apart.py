"""A customer gets no reminder together with what it reminds of."""

from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.outbox.mail_order import mail_ordering_key
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.reconnect.ask import mail
from linekeeper.reconnect.ending import announce_ending
from linekeeper.store.tables import Connection, Credential, Outbox
from tests.delivering import deliver_mail
from tests.reconnect.asked import asked, link_to_set_up
from tests.reconnect.conftest import House
from tests.reconnect.post import listening
from tests.reconnect.test_ask import Opened, asking, next_weekday_noon, outbox, work
from tests.reconnect.test_ending import refused
from tests.reconnect.working_clock import at, due_now


@pytest.mark.parametrize("what", ["setup", "ending"])
async def test_after_days_in_which_nothing_ran_a_customer_is_asked_once(
    open_house: Opened, what: str
) -> None:
    """What it was to be asked, and reminded of, is due at once then."""
    noon = next_weekday_noon(utcnow() + timedelta(days=1))
    async with listening() as post:
        house = await asking(open_house, post.url)
        await _ask(house, what)
        before = len(post.mails)
        with at(noon):
            await due_now(house.store)
            await deliver_mail(house.rt)
            await _remind(house, what)
            await due_now(house.store)
            await deliver_mail(house.rt)
        assert len(post.mails) == before + 1
        rows = await outbox(house, "email")
        assert [row.status for row in rows] == ["sent", "superseded"]
        assert [row.payload["reminder"] for row in rows] == [False, True]


async def test_a_reminder_is_sent_a_day_after_what_it_reminds_of_and_not_at_once(
    open_house: Opened,
) -> None:
    async with listening() as post:
        house, connection = await asked(open_house, post.url)
        assert len(post.mails) == 1
        [incident] = await house.incidents()
        assert connection.customer_id is not None
        for number, later, sent in ((1, timedelta(minutes=1), 1), (2, timedelta(days=1), 2)):
            moment = next_weekday_noon(utcnow()) + later
            async with house.store.write() as session:
                await session.execute(  # a sweep has just looked; the first was mailed at noon
                    update(Connection).values(last_answered_at=moment, last_checked_at=moment)
                )
                await session.execute(
                    update(Outbox)
                    .where(col(Outbox.channel) == "email", col(Outbox.status) == "sent")
                    .values(settled_at=next_weekday_noon(utcnow()))
                )
                again = mail(incident.id, 1, connection.customer_id, "remind", str(number))
                await enqueue(house.store, session, [again], now=moment)
            with at(moment):
                await due_now(house.store)
                await work(house)
            assert len(post.mails) == sent


async def _ask(house: House, what: str) -> None:
    """The first mail waits, of a login to set up, or of one that ends."""
    if what == "ending":
        await refused(house, ends_in=timedelta(days=6))
        await announce_ending(house.rt, now=utcnow())
        return
    [connection, *_] = await house.connections()
    expires_at = utcnow() + timedelta(days=20)
    link = await link_to_set_up(house, connection, expires_at=expires_at)
    await _set_up(house, str(connection.customer_id), link.id, 0)


async def _remind(house: House, what: str) -> None:
    if what == "ending":
        async with house.store.write() as session:
            ends_at = utcnow() + timedelta(days=2)
            await session.execute(
                update(Credential)
                .where(col(Credential.refused_at).is_not(None))
                .values(expires_at=ends_at)
            )
        await announce_ending(house.rt, now=utcnow())
        return
    [asked] = await house.rows(Outbox, col(Outbox.channel) == "email")
    await _set_up(house, asked.payload["customer_id"], asked.payload["link_id"], 1)


async def _set_up(house: House, customer_id: str, link_id: str, number: int) -> None:
    payload = {"do": "setup", "customer_id": customer_id, "link_id": link_id}
    message = Message(
        "email",
        f"email:setup:{link_id}:{number}",
        payload | {"reminder": number > 0},
        ordering_key=mail_ordering_key("setup", customer_id),
    )
    async with house.store.write() as session:
        await enqueue(house.store, session, [message], now=utcnow())
