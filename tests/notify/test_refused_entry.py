"""An entry of the timeline that Slack refuses for itself, and what comes after it."""

from datetime import timedelta

import pytest

from linekeeper.notify.refusals import ENTRY_TRIES
from sandbox.slack import SlackFaults
from tests.notify.conftest import Desk
from tests.notify.test_deliver import slack_rows


async def resolve(desk: Desk, incident_id: str) -> None:
    resolved = {"status": "resolved", "resolved_at": desk.now()}
    await desk.change(incident_id, "resolved", "Resolved after a while", **resolved)


@pytest.mark.parametrize(
    "refused",
    [
        "restricted_action_thread_locked",
        "restricted_action_non_threadable_channel",
        "cannot_reply_to_message",
    ],
)
async def test_where_replies_are_not_taken_the_message_says_how_it_ends(
    desk: Desk, refused: str
) -> None:
    desk.slack.faults = SlackFaults(replies=refused)
    incident_id = await desk.open()
    await desk.deliver()
    await resolve(desk, incident_id)
    await desk.deliver()
    [message] = desk.messages()
    assert message["text"].startswith(":large_green_circle:")
    assert {row.status for row in await slack_rows(desk.store)} == {"sent", "superseded"}


async def test_where_replies_are_not_taken_a_reminder_is_a_message(desk: Desk) -> None:
    desk.slack.faults = SlackFaults(replies="restricted_action_thread_locked")
    await desk.open()
    await desk.deliver()
    desk.ahead = timedelta(hours=4, minutes=1)
    await desk.deliver()
    first, reminder, *more = desk.messages()
    assert not more
    assert "Acme · SAP ECC" in reminder["text"]
    assert not first["replies"]


async def test_an_entry_that_slack_refuses_holds_the_end_up_for_a_minute_at_most(
    desk: Desk,
) -> None:
    desk.slack.faults = SlackFaults(replies="something_new")
    incident_id = await desk.open()
    await desk.deliver()
    await resolve(desk, incident_id)
    for _ in range(ENTRY_TRIES * 2):
        desk.ahead += timedelta(seconds=10)
        await desk.deliver()
    [message] = desk.messages()
    assert message["text"].startswith(":large_green_circle:")
    assert "something_new" in str([row.error for row in await slack_rows(desk.store)])
