import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import Configuration
from linekeeper.incidents.announce import say
from linekeeper.notify.channels import BURST
from linekeeper.notify.slack_channel import Pacer
from linekeeper.notify.view import Links
from linekeeper.outbox.queue import ENDED, Message, enqueue
from linekeeper.store import Store
from linekeeper.store.tables import IncidentConnection, Observation, Outbox
from sandbox.slack import SlackFaults
from tests.notify.conftest import Desk
from tests.patient import attended

Rewind = Callable[[], Awaitable[None]]


def shows(row: Outbox) -> bool:
    return bool(row.payload["do"] == "show")


async def slack_rows(store: Store) -> list[Outbox]:
    async with store.read() as session:
        found = await session.scalars(
            select(Outbox).where(Outbox.channel == "slack").order_by(Outbox.seq)
        )
        return list(found)


async def test_an_incident_is_one_message_edited_in_place_with_its_timeline_as_thread(
    desk: Desk,
) -> None:
    incident_id = await desk.open()
    assert (await desk.deliver()).sent == 2
    [message] = desk.messages()
    assert message["blocks"][0]["text"]["text"] == (":red_circle: Acme · SAP ECC — Unreachable")
    resolved = desk.now() + timedelta(minutes=12)
    await desk.change(
        incident_id,
        "resolved",
        "It answers again.",
        status="resolved",
        resolved_at=resolved,
    )
    await desk.deliver()
    [message] = desk.messages()
    assert message["blocks"][0]["text"]["text"].startswith(":large_green_circle:")
    assert "after 12 min" in str(message["blocks"])
    assert message["edits"] == 1
    assert [r["text"] for r in message["replies"]] == [
        "Opened: it failed 3 probes.",
        "It answers again.",
    ]


async def test_a_merged_incident_says_where_it_goes_on_and_is_not_called_resolved(
    desk: Desk,
) -> None:
    narrow, wide = await desk.open(), await desk.open(customer="Globex", others=4)
    await desk.deliver()
    now = desk.now()
    async with desk.store.write() as session:
        member = await session.scalar(
            update(IncidentConnection)
            .where(col(IncidentConnection.incident_id) == narrow)
            .values(left_at=now)
            .returning(col(IncidentConnection.connection_id))
        )
        session.add(
            IncidentConnection(
                incident_id=wide, connection_id=member, kind="unreachable", joined_at=now
            )
        )
    await desk.change(narrow, "merged", status="resolved", resolved_at=now)
    await desk.deliver()
    message = next(m for m in desk.messages() if "Acme" in m["text"])
    assert message["text"].startswith(":white_circle:")
    assert "into the incident of sap-ecc" in message["text"]


async def test_a_good_word_in_between_is_not_shown_as_the_trouble(desk: Desk) -> None:
    incident_id = await desk.open()
    async with desk.store.write() as session:
        [member] = await session.scalars(select(IncidentConnection))
        session.add(
            Observation(
                connection_id=member.connection_id,
                at=desk.now() + timedelta(seconds=5),
                source="webhook",
                outcome="answered",
                message="webhook sync.completed",
            )
        )
    await desk.change(incident_id, "changed", kind="degraded")
    await desk.deliver()
    [message] = desk.messages()
    shown = str(message["blocks"])
    assert "Invalid credentials" in shown
    assert "sync.completed" not in shown


async def test_many_changes_before_a_delivery_are_one_edit(desk: Desk) -> None:
    incident_id = await desk.open()
    for n in range(5):
        await desk.change(incident_id, "changed", f"{n} more")
    await desk.deliver()
    [message] = desk.messages()
    assert message["edits"] == 0
    assert len(message["replies"]) == 6
    assert {row.status for row in await slack_rows(desk.store)} <= set(ENDED)


async def test_a_burst_of_changes_is_one_entry_of_the_timeline(desk: Desk) -> None:
    incident_id = await desk.open()
    for n in range(2 * BURST):
        await desk.change(incident_id, "changed", f"{n:02} more")
    for _ in range(2):
        await desk.deliver()
        [message] = desk.messages()
        [reply] = message["replies"]
        assert all(reply["text"].count(f"{n:02} more") == 1 for n in range(2 * BURST))
        async with desk.store.write() as session:  # as if it had died before it could settle
            said = update(Outbox).where(col(Outbox.error).is_(None))
            await session.execute(said.values(status="pending", attempts=1))


async def test_two_deliverers_at_once_say_everything_once(desk: Desk) -> None:
    for n in range(12):
        await desk.open(customer=f"Customer {n}")
    await asyncio.gather(*(desk.deliver(owner=f"d{n}", limit=100) for n in range(2)))
    await desk.deliver()
    messages = desk.messages()
    assert len(messages) == 12
    assert all(len(m["replies"]) == 1 for m in messages)


async def test_when_slack_asks_to_wait_the_whole_channel_waits(desk: Desk) -> None:
    for n in range(15):
        await desk.open(customer=f"Customer {n}")
    desk.slack.faults = SlackFaults(mode="429")
    now = desk.now()
    done = await desk.deliver(clock=lambda: now)  # else the second is over on a slow machine
    assert done.sent == 0
    why = {row.error for row in await slack_rows(desk.store)}
    assert "Slack asks to wait 1 s (too many messages)" in why
    assert sum(desk.slack.calls.values()) <= 4
    soonest = min(row.next_attempt_at for row in await slack_rows(desk.store) if shows(row))
    called = dict(desk.slack.calls)
    await desk.deliver(clock=lambda: soonest - timedelta(milliseconds=1))
    assert desk.slack.calls == called
    desk.slack.faults = SlackFaults()
    desk.ahead = timedelta(seconds=5)
    await desk.deliver(limit=500)
    assert len(desk.messages()) == 15


@pytest.mark.parametrize("asked", ["31536000", "inf", "1e300"])
async def test_slack_is_obeyed_for_an_hour_at_most(desk: Desk, asked: str) -> None:
    """Who answers for Slack (a proxy, say) asked for a year, and people heard nothing for it."""
    await desk.open()
    desk.slack.faults = SlackFaults(mode=f"429-{asked}")
    assert (await desk.deliver()).sent == 0
    desk.slack.faults = SlackFaults()
    desk.ahead = timedelta(hours=1, seconds=5)
    await desk.deliver()
    assert len(desk.messages()) == 1


@pytest.mark.parametrize("mode", ["500", "html", "internal_error"])
async def test_an_unwell_slack_is_tried_again_with_growing_gaps(desk: Desk, mode: str) -> None:
    await desk.open()
    desk.slack.faults = SlackFaults(mode=mode)
    gaps = []
    for _ in range(3):
        await desk.deliver()
        row = (await slack_rows(desk.store))[0]
        gaps.append(row.next_attempt_at - desk.now())
        desk.ahead += gaps[-1] + timedelta(seconds=1)
    assert gaps == sorted(gaps)
    assert row.status == "pending"
    assert row.error
    desk.slack.faults = SlackFaults()
    assert (await desk.deliver()).sent == 2
    assert len(desk.messages()) == 1


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        ("invalid_auth", "bot token"),
        ("token_revoked", "bot token"),
        ("missing_scope", "chat:write"),
        ("is_archived", "unarchive"),
        ("not_in_channel", "invite the bot"),
        ("channel_not_found", "existing channel"),
        ("something_new", "Slack's documentation"),
    ],
)
async def test_a_refusal_is_kept_with_what_to_mend_and_tried_in_ten_minutes(
    desk: Desk, error: str, fix: str
) -> None:
    await desk.open()
    desk.slack.faults = SlackFaults(mode=error)
    await desk.deliver()
    row = (await slack_rows(desk.store))[0]
    assert row.status == "pending"
    assert error in (row.error or "")
    assert fix in (row.error or "")
    assert row.next_attempt_at > desk.now() + timedelta(minutes=9)
    desk.slack.faults = SlackFaults()
    desk.ahead = timedelta(minutes=11)
    assert (await desk.deliver()).sent == 2


async def test_what_was_held_goes_out_with_the_first_message_that_slack_takes_again(
    desk: Desk,
) -> None:
    await desk.open(customer="First")
    desk.slack.faults = SlackFaults(mode="invalid_auth")
    await desk.deliver()
    desk.slack.faults = SlackFaults()
    desk.ahead = timedelta(minutes=1)
    assert (await desk.deliver()).sent == 0  # held for ten minutes
    async with desk.store.write() as session:
        await say(desk.store, session, "test", "A test", desk.now())
    assert (await desk.deliver()).sent > 0
    await desk.deliver()
    assert "First" in str(desk.messages())
    assert {row.status for row in await slack_rows(desk.store)} <= set(ENDED)


async def test_only_what_is_no_longer_true_is_given_up_and_not_before_three_days(
    desk: Desk,
) -> None:
    await desk.open()
    async with desk.store.write() as session:
        await say(desk.store, session, "test", "A test", utcnow())
    desk.slack.faults = SlackFaults(mode="is_archived")
    for desk.ahead in attended(timedelta(), timedelta(days=2, hours=23)):
        await desk.deliver()
    assert "dead" not in {row.status for row in await slack_rows(desk.store)}
    desk.ahead = timedelta(days=3, hours=1)
    await desk.deliver()
    by_what = {row.payload["do"]: row for row in await slack_rows(desk.store)}
    assert by_what["say"].status == "dead"
    assert "is_archived" in (by_what["say"].error or "")
    assert by_what["show"].status == "pending"


async def test_the_token_is_never_in_an_error(desk: Desk) -> None:
    slack = desk.configuration.slack
    assert slack is not None
    secret = slack.model_copy(
        update={
            "bot_token": SecretStr("xoxb-very-secret"),
            "api_url": "http://127.0.0.1:9/slack/api/",
        }
    )
    await desk.open()
    desk.configuration = Configuration(slack=secret)
    done = await desk.deliver()
    why = str([row.error for row in await slack_rows(desk.store)])
    assert "does not answer" in why
    assert "xoxb" not in str(done) + why


async def test_without_slack_the_truth_stays_visible(desk: Desk) -> None:
    await desk.open()
    desk.configuration = Configuration()
    done = await desk.deliver(links=Links(ui_url="http://ui"))
    assert done.sent == 0
    assert done.unsent[0].startswith("[OPEN] Acme · SAP ECC")
    assert done.unsent[1] == "Acme · SAP ECC: Opened: it failed 3 probes."
    rows = await slack_rows(desk.store)
    assert {row.status for row in rows} <= {"skipped", "superseded"}
    assert any((row.error or "").startswith("[OPEN] Acme · SAP ECC") for row in rows)


async def test_a_name_can_not_call_the_channel_or_break_out_of_its_place(desk: Desk) -> None:
    await desk.open(
        customer="<!channel> @channel \u202eevil & <https://x|Sons>" + "n" * 500,
        message="<!here> ``` *bold*\n> quote",
    )
    assert (await desk.deliver()).sent == 2
    [message] = desk.messages()
    everything = str(message).lower()
    assert "<!channel" not in everything
    assert "<!here" not in everything
    assert "@channel" not in everything
    assert "\u202e" not in everything
    assert "<https://x" not in everything


async def test_one_message_a_second_is_kept_by_turns() -> None:
    pacer = Pacer(0.01)
    loop = asyncio.get_running_loop()
    start = loop.time()
    await asyncio.gather(*(pacer.turn("c") for _ in range(5)), pacer.turn("other"))
    assert loop.time() - start >= 0.04


async def test_through_errors_waits_and_lost_answers_everything_is_seen_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linekeeper.notify.slack_channel.TIMEOUT_SECONDS", 0.15)
    for n in range(6):
        await desk.open(customer=f"Customer {n}")
    for mode in ("500", "lost", "429", "lost", "html", "lost", "timeout", "internal_error"):
        desk.slack.faults = SlackFaults(mode=mode, share=0.4, timeout_seconds=0.2)
        await asyncio.gather(*(desk.deliver(owner=f"d{n}") for n in range(2)))
        desk.ahead += timedelta(minutes=10)
    desk.slack.faults = SlackFaults()
    await desk.deliver()
    assert {row.status for row in await slack_rows(desk.store)} <= set(ENDED)
    assert len(desk.messages()) == 6
    assert [len(m["replies"]) for m in desk.messages()] == [1] * 6


async def test_what_is_said_of_one_thread_is_one_thread_even_if_its_head_is_gone(
    desk: Desk,
) -> None:
    async def say_news(number: int) -> None:
        payload = {"do": "say", "thread": "implementation:1", "text": f"News {number}"}
        async with desk.store.write() as session:
            message = Message("slack", f"slack:say:{number}", payload)
            await enqueue(desk.store, session, [message], now=desk.now())
        await desk.deliver()

    for number in range(3):
        await say_news(number)
    [head] = [row for row in desk.messages() if row["text"] == "News 0"]
    assert [reply["text"] for reply in head["replies"]] == ["News 1", "News 2"]
    desk.slack.delete(head["channel_id"], head["ts"])
    await say_news(3)
    await say_news(4)
    [head] = [row for row in desk.messages() if row["text"] == "News 3"]
    assert [reply["text"] for reply in head["replies"]] == ["News 4"]
