"""Mails that another process has taken over while they waited for their turn."""

import asyncio
from collections import Counter
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, Envelope, Session

from linekeeper.consumer.alive import retire
from linekeeper.outbox.sender import Sender
from linekeeper.outbox.senders.reconnect import advance_due_cases
from tests.delivering import deliver_mail
from tests.reconnect.post import Post, listening
from tests.reconnect.test_ask import Opened, asking, outbox


class Slow(Post):
    """It takes its first mails once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.held = 0
        self.holds, self.may_go = asyncio.Event(), asyncio.Event()

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:
        self.held += 1
        if self.held <= Sender.at_once:
            if self.held == Sender.at_once:
                self.holds.set()
            await self.may_go.wait()
        return await super().handle_DATA(server, _session, envelope)


async def test_a_mail_that_was_taken_over_is_not_sent_by_who_held_it(open_house: Opened) -> None:
    slow = Slow()
    async with listening(post=slow) as post:
        house = await asking(open_house, post.url)
        for connection in await house.connections():
            await house.lose_login(connection)
        await advance_due_cases(house.rt)
        waiting = len(await outbox(house, "email"))
        assert waiting > Sender.at_once
        async with asyncio.timeout(60):
            first = asyncio.create_task(deliver_mail(house.rt))
            await slow.holds.wait()
            await retire(house.store, house.rt.owner)
            await deliver_mail(house.rt)
            slow.may_go.set()
            await first
        said = Counter(_id(mail) for mail in post.mails)
        assert len(said) == waiting
        notices = await outbox(house, "slack")
        assert not [row.payload for row in notices if "A mail waits" in row.payload.get("text", "")]
        assert sorted(said.values()) == [*[1] * (waiting - Sender.at_once), *[2] * Sender.at_once]


def _id(mail: EmailMessage) -> str:
    return str(mail["Message-ID"])
