"""Messages that nobody was there to send for days have their tries all the same."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlmodel import col

from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store.tables import Outbox
from sandbox.slack import SlackFaults
from tests.notify.conftest import Desk
from tests.patient import attended

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


async def _said(desk: Desk) -> None:
    payload = {"do": "say", "subject": "news", "text": "A word of its own"}
    async with desk.store.write() as session:
        message = Message("slack", "slack:say:news", payload)
        await enqueue(desk.store, session, [message], now=desk.now())


async def _row(desk: Desk) -> Outbox:
    async with desk.store.read() as session:
        rows = select(Outbox).where(col(Outbox.dedupe_key) == "slack:say:news")
        return (await session.scalars(rows)).one()


@pytest.mark.parametrize("tries", [0, 1, 3])
async def test_a_message_has_its_tries_after_four_days_without_a_consumer(
    desk: Desk, tries: int
) -> None:
    await _said(desk)
    desk.slack.faults = SlackFaults(mode="500")
    for _ in range(tries):
        await desk.deliver()
        desk.ahead += timedelta(hours=1)
    desk.ahead += timedelta(days=4)
    begins = desk.ahead
    for desk.ahead in attended(begins, begins + timedelta(days=2.8)):
        await desk.deliver()
        assert (await _row(desk)).status == "pending", desk.ahead
    assert (await _row(desk)).attempts > 10
    desk.ahead = begins + timedelta(days=3, hours=1)
    await desk.deliver()
    row = await _row(desk)
    assert row.status == "dead"
    assert "given up after 3 days" in (row.error or "")
