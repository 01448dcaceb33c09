"""What is written for later: its age counts from then, and nobody hears of it before."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlmodel import col

from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store.tables import Outbox
from sandbox.slack import SlackFaults
from tests.notify.conftest import Desk
from tests.notify.test_fallback_channels import Pager, also, deliver, pager
from tests.patient import attended

__all__ = ("pager",)
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


async def said_later(desk: Desk, *, planned: timedelta) -> None:
    """A message of its own that is due in `planned`."""
    payload = {"do": "say", "subject": "news", "text": "A word of its own"}
    due = desk.now() + planned
    message = Message("slack", "slack:say:news", payload, kind="say", not_before=due)
    async with desk.store.write() as session:
        await enqueue(desk.store, session, [message], now=desk.now())


async def status_of(desk: Desk) -> tuple[str, str | None]:
    async with desk.store.read() as session:
        row = await session.scalar(select(Outbox).where(col(Outbox.channel) == "slack"))
    assert row is not None
    return row.status, row.error


async def test_a_message_planned_four_days_ahead_is_tried_for_three_days_from_then(
    desk: Desk,
) -> None:
    await said_later(desk, planned=timedelta(days=4))
    desk.slack.faults = SlackFaults(mode="500")
    for desk.ahead in attended(timedelta(days=4, minutes=1), timedelta(days=6, hours=23)):
        await desk.deliver()
        assert (await status_of(desk))[0] == "pending", await status_of(desk)
    desk.ahead = timedelta(days=7, minutes=1)
    await desk.deliver()
    status, why = await status_of(desk)
    assert status == "dead"
    assert "given up after 3 days" in (why or "")


async def test_what_is_planned_is_said_nowhere_before_it_is_due_where_slack_takes_nothing(
    desk: Desk,
    pager: Pager,
) -> None:
    also(desk, pager)
    await desk.open()
    await said_later(desk, planned=timedelta(days=4))
    desk.slack.faults = SlackFaults(mode="token_revoked")
    for hours in (0, 1, 95):
        desk.ahead = timedelta(hours=hours)
        await deliver(desk)
    assert "Linekeeper" not in pager.titles, "told days before it was due"
    desk.ahead = timedelta(days=4, minutes=1)
    await deliver(desk)
    await deliver(desk)
    assert pager.titles.count("Linekeeper") == 1, "told where Slack takes nothing, once it is due"
