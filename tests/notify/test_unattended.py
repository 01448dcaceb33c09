"""Messages that nobody was there to send for days have their tries all the same."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlmodel import col

from linekeeper.incidents.announce import incident_ordering_key
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store.tables import Outbox
from sandbox.slack import SlackFaults
from tests.notify.conftest import Desk
from tests.notify.test_fallback_channels import Pager, also, deliver, pager
from tests.patient import attended

__all__ = ("pager",)
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


async def test_what_is_said_late_says_of_when_it_is(desk: Desk) -> None:
    await _said(desk)
    written = desk.now()
    incident = await desk.open()
    desk.ahead += timedelta(days=4)
    await desk.deliver()
    texts = [message["text"] for message in desk.messages()]
    when = f"{written:%d %b %H:}"
    [own] = [text for text in texts if "A word of its own" in text]
    assert own.startswith(when)
    assert "sent late" in own
    [shown] = [text for text in texts if "Acme" in text]
    assert "Since" in shown or "since" in shown, incident
    assert "sent late" not in shown


async def test_of_reminders_that_waited_together_only_the_last_is_said(desk: Desk) -> None:
    incident = await desk.open()
    await desk.deliver()
    async with desk.store.write() as session:
        for number in (1, 2):
            payload = {"do": "remind", "incident_id": incident, "why": "nobody took it"}
            payload["step"] = f"reminder:{number}"
            ordering_key = incident_ordering_key(incident)
            message = Message("slack", f"{ordering_key}:reminder:{number}", payload, ordering_key)
            await enqueue(desk.store, session, [message], now=desk.now())
    desk.ahead += timedelta(hours=2)
    for _ in range(3):
        await desk.deliver()
    said = str(desk.messages())
    assert "Reminder 2" in said
    assert "Reminder 1" not in said


async def test_of_what_was_over_before_others_could_hear_of_it_only_the_end_is_said(
    desk: Desk,
    pager: Pager,
) -> None:
    also(desk, pager)
    desk.configuration = desk.configuration.model_copy(update={"slack": None})
    pager.status = 500
    ids = [await desk.open(customer=name) for name in ("Acme", "Bolt")]
    for _ in range(2):
        await deliver(desk)
        desk.ahead += timedelta(minutes=1)
    over = {"status": "resolved", "resolved_at": desk.now()}
    await desk.change(ids[0], "resolved", "It answers again.", **over)
    pager.status = 200
    for _ in range(3):
        desk.ahead += timedelta(minutes=11)
        await deliver(desk)
    said = str(pager.heard)
    assert "New: Bolt" in said
    assert "New: Acme" not in said
    assert "Resolved: Acme" in said
