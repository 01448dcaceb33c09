"""What was decided before quiet hours, and could not be said before they began."""

from datetime import UTC, datetime, timedelta

import pytest

from linekeeper.notify import slack_channel
from linekeeper.notify.channels import troubles
from linekeeper.notify.evaluate import evaluate_alerts
from sandbox.slack import SlackFaults
from tests.notify.conftest import Desk
from tests.notify.test_evaluate import at, with_policy
from tests.notify.test_fallback_channels import Pager, also, deliver, pager

__all__ = ("pager",)
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

EVENING = datetime(2026, 3, 4, 21, 58, tzinfo=UTC)
NIGHT = EVENING + timedelta(minutes=20)
MORNING = datetime(2026, 3, 5, 7, 0, tzinfo=UTC)
QUIET = "22:00-07:00"


async def _minutes_pass(desk: Desk, minutes: int) -> None:
    for _ in range(minutes):
        desk.ahead += timedelta(minutes=1)
        await deliver(desk)


async def test_what_slack_did_not_take_before_quiet_hours_waits_for_the_morning(
    desk: Desk,
) -> None:
    at(desk, EVENING)
    with_policy(desk, quiet_hours=QUIET)
    desk.slack.faults = SlackFaults(mode="500")
    for customer in ("Acme", "Borealis", "Cedar"):
        await desk.open(customer=customer)
    await _minutes_pass(desk, 4)
    assert [each.channel for each in await troubles(desk.store)] == ["slack"]
    desk.slack.faults = SlackFaults()
    await _minutes_pass(desk, 20)
    assert desk.messages() == []
    assert await troubles(desk.store) == [], "it was found out that Slack is back"
    at(desk, MORNING)
    await _minutes_pass(desk, 1)
    [message] = desk.messages()
    assert message["text"] == ":red_circle: Quiet-hours summary: 3 incidents, 3 still open"


async def test_one_message_about_several_waits_as_well(desk: Desk) -> None:
    at(desk, EVENING)
    with_policy(desk, quiet_hours=QUIET, cap_per_hour=1)
    desk.slack.faults = SlackFaults(mode="500")
    for n in range(3):
        await desk.open(customer=f"Customer {n}")
    await _minutes_pass(desk, 4)
    desk.slack.faults = SlackFaults()
    await _minutes_pass(desk, 20)
    assert desk.messages() == []
    at(desk, MORNING)
    await _minutes_pass(desk, 1)
    assert all(f"Customer {n}" in str(desk.messages()) for n in range(3))


async def test_what_nobody_was_there_to_send_waits_for_the_morning(desk: Desk) -> None:
    at(desk, EVENING)
    with_policy(desk, quiet_hours=QUIET)
    await desk.open(customer="Acme")
    await evaluate_alerts(desk.store, desk.configuration, now=desk.now())
    at(desk, NIGHT)
    await _minutes_pass(desk, 3)
    assert desk.messages() == []
    at(desk, MORNING)
    await _minutes_pass(desk, 1)
    [message] = desk.messages()
    assert "Acme" in message["text"]
    assert [reply["text"] for reply in message["replies"]] == ["Opened: it failed 3 probes."]


async def test_what_is_critical_is_said_once_slack_is_back(desk: Desk) -> None:
    at(desk, EVENING)
    with_policy(desk, quiet_hours=QUIET)
    desk.slack.faults = SlackFaults(mode="500")
    await desk.open(customer="Calm")
    await desk.open(customer="Loud", others=5)
    await _minutes_pass(desk, 4)
    desk.slack.faults = SlackFaults()
    await _minutes_pass(desk, 20)
    [message] = desk.messages()
    assert "Loud" in message["text"]


async def test_what_slack_took_without_an_answer_stands_there_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(desk, EVENING)
    with_policy(desk, quiet_hours=QUIET)
    desk.slack.faults = SlackFaults(mode="lost", method="chat.postMessage", timeout_seconds=0.6)
    with monkeypatch.context() as patience:
        patience.setattr(slack_channel, "TIMEOUT_SECONDS", 0.3)
        incident = await desk.open(customer="Acme")
        await desk.deliver()
    desk.slack.faults = SlackFaults(mode="500")
    await _minutes_pass(desk, 5)
    desk.slack.faults = SlackFaults()
    await _minutes_pass(desk, 15)
    await desk.change(incident, "resolved", status="resolved", resolved_at=desk.now())
    at(desk, MORNING)
    await _minutes_pass(desk, 1)
    [message] = desk.messages()
    assert "resolved" in message["text"]


async def test_slack_that_is_back_at_night_lets_fallback_channels_sleep(
    desk: Desk,
    pager: Pager,
) -> None:
    at(desk, EVENING)
    also(desk, pager, quiet_hours=QUIET)
    desk.slack.faults = SlackFaults(mode="500")
    incident = await desk.open(customer="Acme")
    await _minutes_pass(desk, 14)
    assert pager.titles == ["Linekeeper: Acme · SAP ECC"], "Slack can't be reached"
    desk.slack.faults = SlackFaults()
    await _minutes_pass(desk, 15)
    await desk.open(customer="Loud", others=5)
    await _minutes_pass(desk, 15)
    assert len(pager.heard) == 1
    [message] = desk.messages()
    assert "Loud" in message["text"]
    await desk.change(incident, "resolved", status="resolved", resolved_at=desk.now())
    await _minutes_pass(desk, 1)
    assert pager.heard[1]["message"].startswith("Resolved: ")


async def test_a_reminder_that_slack_did_not_take_waits_for_the_morning(desk: Desk) -> None:
    at(desk, EVENING - timedelta(hours=4, minutes=5))
    with_policy(desk, quiet_hours=QUIET, remind_hours=4, remind_growth=1)
    await desk.open(customer="Acme", kind="reauthorization_required")
    await _minutes_pass(desk, 1)
    desk.slack.faults = SlackFaults(mode="500")
    at(desk, EVENING)
    await _minutes_pass(desk, 4)
    desk.slack.faults = SlackFaults()
    await _minutes_pass(desk, 20)
    [message] = desk.messages()
    assert "Reminder" not in str(message["replies"])
    assert await troubles(desk.store) == []
    at(desk, MORNING)
    await _minutes_pass(desk, 1)
    [message] = desk.messages()
    assert sum("Reminder 1" in reply["text"] for reply in message["replies"]) == 1


async def test_an_incident_that_began_anew_while_slack_was_away_waits_with_all_its_entries(
    desk: Desk,
) -> None:
    """Universe 30058: an entry of its thread posted its message at night, which nobody edited."""
    at(desk, EVENING - timedelta(minutes=10))
    with_policy(desk, quiet_hours=QUIET)
    desk.slack.faults = SlackFaults(mode="500")
    incident = await desk.open(customer="Acme")
    await _minutes_pass(desk, 3)
    now = desk.now()
    await desk.change(incident, "resolved", "Resolved", status="resolved", resolved_at=now)
    await _minutes_pass(desk, 1)
    await desk.change(
        incident, "reopened", "Reopened", status="open", resolved_at=None, round=1, reopened_at=now
    )
    await _minutes_pass(desk, 7)
    assert desk.now() > EVENING
    at(desk, NIGHT)
    desk.slack.faults = SlackFaults()
    await _minutes_pass(desk, 20)
    assert desk.messages() == []
    now = desk.now()
    await desk.change(incident, "resolved", "Resolved again", status="resolved", resolved_at=now)
    await _minutes_pass(desk, 1)
    at(desk, MORNING)
    await _minutes_pass(desk, 1)
    [message] = desk.messages()
    assert "resolved" in message["text"]
