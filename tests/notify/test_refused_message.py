"""What Slack refuses of a message: an edit, its channel, its blocks, its text."""

from datetime import timedelta

import pytest

from linekeeper.clock import utcnow
from linekeeper.config import AlertPolicy
from linekeeper.incidents.announce import say
from linekeeper.outbox.queue import ENDED
from sandbox.slack import Channel, SlackFaults
from tests.notify.conftest import Desk
from tests.notify.test_deliver import slack_rows


@pytest.mark.parametrize("refused", ["deleted", "cant_update_message", "edit_window_closed"])
async def test_a_message_that_can_not_be_edited_is_posted_anew_and_remembered(
    desk: Desk, refused: str
) -> None:
    incident_id = await desk.open()
    await desk.deliver()
    [old] = desk.messages()
    desk.ahead += timedelta(minutes=1)  # it is posted anew once a minute at most
    if refused == "deleted":
        desk.slack.delete("linekeeper", old["ts"])
    else:
        desk.slack.faults = SlackFaults(mode=refused, method="chat.update")
    await desk.change(incident_id, "changed", "Another one joined.")
    await desk.deliver()
    assert {row.status for row in await slack_rows(desk.store)} <= set(ENDED)
    desk.slack.faults = SlackFaults()
    await desk.change(incident_id, "changed")
    await desk.deliver()
    new = desk.messages()[-1]
    assert new["ts"] != old["ts"]
    assert new["edits"] == 1
    assert [r["text"] for r in new["replies"]] == ["Another one joined."]


@pytest.mark.parametrize("old_one", ["deleted", "left", "archived"])
async def test_a_channel_made_anew_under_its_name_takes_what_concerns_the_old_one(
    desk: Desk, old_one: str
) -> None:
    incident_id = await desk.open()
    await desk.deliver()
    old = desk.slack.channel("linekeeper")
    old.name = "linekeeper-old"
    old.member, old.archived = old_one != "left", old_one == "archived"
    if old_one == "deleted":
        del desk.slack.channels[old.id]
    new = desk.slack.channels["C0SANDBOX99"] = Channel("C0SANDBOX99", "linekeeper")
    await desk.change(incident_id, "changed", "Another one joined.")
    other = await desk.open(customer="Other")
    await desk.deliver()
    assert {row.status for row in await slack_rows(desk.store)} <= set(ENDED)
    heads = [message for message in new.messages.values() if message.thread_ts is None]
    assert sorted("Other" in message.text for message in heads) == [False, True]
    await desk.change(incident_id, "resolved", "Over.", status="resolved", resolved_at=desk.now())
    await desk.change(other, "resolved", "Over.", status="resolved", resolved_at=desk.now())
    await desk.deliver()
    assert all("resolved" in message.text for message in heads)


async def test_a_message_about_several_in_a_channel_that_is_gone_holds_nothing_up(
    desk: Desk,
) -> None:
    desk.configuration = desk.configuration.model_copy(
        update={"alerts": AlertPolicy(cap_per_hour=1)}
    )
    await desk.open(customer="First")
    shared = await desk.open(customer="Second")
    await desk.deliver()
    [both] = desk.messages()
    assert "First" in str(both)
    assert "Second" in str(both)
    desk.slack.channels.clear()
    new = desk.slack.channels["C0SANDBOX99"] = Channel("C0SANDBOX99", "linekeeper")
    await desk.change(shared, "changed", "Another one joined.")
    await desk.deliver()
    async with desk.store.write() as session:
        await say(desk.store, session, "test", "A test", desk.now())
    await desk.open(customer="Third")
    await desk.deliver()
    said = [message.text for message in new.messages.values()]
    assert "A test" in said
    assert any("Second" in text and "Third" in text for text in map(str, new.messages.values()))


async def test_a_channel_that_is_gone_holds_edits_with_all_else(desk: Desk) -> None:
    incident_id = await desk.open()
    await desk.deliver()
    desk.slack.channels.clear()
    await desk.change(incident_id, "changed", "Another one joined.")
    await desk.deliver()
    assert "channel_not_found" in str([row.error for row in await slack_rows(desk.store)])
    assert "pending" in {row.status for row in await slack_rows(desk.store)}


async def test_a_timeline_whose_message_was_deleted_gets_a_new_one(desk: Desk) -> None:
    await desk.open()
    assert (await desk.deliver(limit=1)).sent == 1
    [old] = desk.messages()
    desk.slack.delete("linekeeper", old["ts"])
    await desk.deliver()
    [new] = desk.messages()
    assert [r["text"] for r in new["replies"]] == ["Opened: it failed 3 probes."]


async def test_where_slack_refuses_the_blocks_the_text_gets_through(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk.store.write() as session:
        await say(desk.store, session, "test", "A test", utcnow())
    refusals = iter(["invalid_blocks", ""])
    monkeypatch.setattr(desk.slack, "goes_wrong", lambda *_: next(refusals))
    assert (await desk.deliver()).sent == 1
    [message] = desk.messages()
    assert message["text"] == "A test"
    assert message["blocks"] == []


async def test_where_slack_refuses_the_text_a_message_says_that_there_is_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    incident_id = await desk.open()
    refusals = iter(["unheard_of_until_now"] * 2)
    with monkeypatch.context() as patch:
        patch.setattr(desk.slack, "goes_wrong", lambda *_: next(refusals, ""))
        assert (await desk.deliver(limit=1)).sent == 1
    [message] = desk.messages()
    assert message["text"].startswith(":red_circle: Slack refuses the text")
    await desk.change(incident_id, "changed")
    await desk.deliver()
    [message] = desk.messages()
    assert "Acme · SAP ECC" in message["text"]
