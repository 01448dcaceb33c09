"""What may have reached Slack before is looked for there, and not said a second time."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from linekeeper.clock import utcnow
from linekeeper.incidents.announce import say
from linekeeper.notify.refusals import UNANSWERED_WAIT
from linekeeper.store.tables import NoticeMessage
from sandbox.slack import SlackFaults
from tests.notify.conftest import Desk
from tests.notify.test_deliver import Rewind, slack_rows


async def test_a_deliverer_killed_before_its_commit_finds_what_it_had_said(
    desk: Desk, as_if_unsettled: Rewind
) -> None:
    await desk.open()
    async with desk.store.write() as session:
        await say(desk.store, session, "test", "A test", utcnow())
    await desk.deliver()
    before = desk.messages()
    async with desk.store.write() as session:
        for row in await session.scalars(select(NoticeMessage)):
            await session.delete(row)  # the place was not remembered either
    await as_if_unsettled()
    assert (await desk.deliver()).sent == 3
    after = desk.messages()
    assert [m["ts"] for m in after] == [m["ts"] for m in before]
    assert [len(m["replies"]) for m in after] == [len(m["replies"]) for m in before]


@pytest.mark.parametrize("wrong", [timedelta(), timedelta(days=1)], ids=["right", "a day ahead"])
async def test_an_answer_that_is_lost_does_not_lead_to_a_second_message(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, wrong: timedelta
) -> None:
    """Nor where this machine's clock is a day ahead of Slack's, which dates the messages."""
    async with desk.store.write() as session:
        await say(desk.store, session, "lost", "Was it heard?", utcnow() + wrong)
    desk.ahead = wrong
    desk.slack.faults = SlackFaults(mode="lost", method="chat.postMessage", timeout_seconds=0.6)
    monkeypatch.setattr("linekeeper.notify.slack_channel.TIMEOUT_SECONDS", 0.3)
    await desk.deliver()
    desk.slack.faults = SlackFaults()
    [row] = await slack_rows(desk.store)
    assert "does not answer" in (row.error or "")
    # Slack may still be at it, and what isn't there yet would not be found.
    assert row.next_attempt_at > row.created_at + timedelta(seconds=UNANSWERED_WAIT)
    desk.ahead = wrong + timedelta(minutes=1)
    assert (await desk.deliver()).sent == 1
    assert [m["text"] for m in desk.messages()] == ["Was it heard?"]


async def test_without_the_right_to_read_history_it_is_said_again_rather_than_not_at_all(
    desk: Desk, as_if_unsettled: Rewind
) -> None:
    async with desk.store.write() as session:
        await say(desk.store, session, "test", "A test", utcnow())
    await as_if_unsettled()
    desk.slack.faults = SlackFaults(mode="missing_scope", method="conversations.list")
    assert (await desk.deliver()).sent == 1
    assert len(desk.messages()) == 1


@pytest.mark.parametrize("answer", ["404", "405", "501"])
async def test_where_no_history_is_offered_it_is_said_again_rather_than_not_at_all(
    desk: Desk, as_if_unsettled: Rewind, answer: str
) -> None:
    """What takes messages as Slack does may know no more of Slack than that."""
    async with desk.store.write() as session:
        await say(desk.store, session, "test", "A test", utcnow())
    await as_if_unsettled()
    desk.slack.faults = SlackFaults(mode=answer, method="conversations.list")
    assert (await desk.deliver()).sent == 1
    assert len(desk.messages()) == 1


@pytest.mark.parametrize("answer", ["html", "500"])
async def test_a_page_in_place_of_the_history_does_not_lead_to_a_second_message(
    desk: Desk, as_if_unsettled: Rewind, answer: str
) -> None:
    """That something stands between us and Slack for a moment says nothing of what it offers."""
    async with desk.store.write() as session:
        await say(desk.store, session, "test", "A test", utcnow())
    await desk.deliver()
    await as_if_unsettled()
    desk.slack.faults = SlackFaults(mode=answer, method="conversations.list")
    assert (await desk.deliver()).sent == 0
    desk.slack.faults = SlackFaults()
    desk.ahead = timedelta(minutes=2)
    assert (await desk.deliver()).sent == 1
    assert len(desk.messages()) == 1
