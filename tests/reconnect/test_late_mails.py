"""Mails that waited together: a customer gets one, which says how things are now."""

from sqlalchemy import update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.outbox.queue import enqueue
from linekeeper.reconnect.ask import mail
from linekeeper.store.tables import Outbox
from tests.reconnect.post import listening
from tests.reconnect.test_ask import Opened, asking, work


async def test_a_reminder_that_waited_with_an_earlier_mail_is_not_sent(
    open_house: Opened,
) -> None:
    async with listening() as post:
        house = await asking(open_house, post.url)
        [connection, *_] = await house.connections()
        post.answer = "451 not now"
        await house.lose_login(connection)
        await work(house)
        [incident] = await house.incidents()
        assert connection.customer_id is not None
        async with house.store.write() as session:
            reminder = mail(incident.id, 1, connection.customer_id, "remind:1")
            await enqueue(house.store, session, [reminder], now=utcnow())
        assert post.mails == []
        post.answer = "250 OK"
        async with house.store.write() as session:
            await session.execute(update(Outbox).values(next_attempt_at=utcnow()))
        await work(house)
        assert len(post.mails) == 1
        rows = await house.rows(Outbox, col(Outbox.channel) == "email")
        assert sorted((row.payload["do"], row.status) for row in rows) == [
            ("ask", "sent"),
            ("remind", "superseded"),
        ]
