"""The alert policy on real databases, with the sandbox's Slack as the channel."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AlertPolicy
from linekeeper.incidents.announce import LOST, ROOT_CAUSE_WAIT
from linekeeper.incidents.operate import acknowledge, mute, snooze
from linekeeper.notify.evaluate import evaluate_alerts
from linekeeper.store import Store, new_id
from linekeeper.store.tables import (
    Connection,
    Notice,
    Outbox,
    Silence,
)
from tests.notify.conftest import Desk
from tests.notify.test_deliver import slack_rows


def with_policy(desk: Desk, **fields: Any) -> None:
    policy = AlertPolicy(**fields)
    desk.configuration = desk.configuration.model_copy(update={"alerts": policy})


def at(desk: Desk, moment: datetime) -> None:
    """Move the desk's clock to `moment`."""
    desk.ahead = moment - utcnow()


async def notices(store: Store) -> list[tuple[str, str]]:
    async with store.read() as session:
        rows = await session.scalars(select(Notice).order_by(col(Notice.id)))
        return [(row.channel, row.step) for row in rows]


async def silence(desk: Desk, scope: str, subject: str = "", *, hours: float = 2) -> None:
    now = desk.now()
    async with desk.store.write() as session:
        session.add(
            Silence(
                id=new_id(),
                scope=scope,
                subject=subject,
                label=scope,
                starts_at=now,
                ends_at=now + timedelta(hours=hours),
                by="Petra",
                reason="patching",
            )
        )


NIGHT = datetime(2026, 3, 4, 23, 30, tzinfo=UTC)
MORNING = datetime(2026, 3, 5, 7, 0, tzinfo=UTC)


async def test_a_night_is_one_message_in_the_morning_that_is_edited_as_things_end(
    desk: Desk,
) -> None:
    with_policy(desk, quiet_hours="22:00-07:00")
    at(desk, NIGHT)
    ids = [await desk.open(customer=f"Customer {n}") for n in range(3)]
    over = desk.now() + timedelta(minutes=20)
    await desk.change(ids[0], "resolved", "It answers.", status="resolved", resolved_at=over)
    await desk.deliver()
    assert [row.status for row in await slack_rows(desk.store)] == ["suppressed"] * 8
    assert desk.messages() == []
    at(desk, MORNING)
    await desk.deliver()
    [message] = desk.messages()
    assert message["text"] == ":red_circle: Quiet-hours summary: 3 incidents, 2 still open"
    shown = str(message["blocks"])
    assert "Customer 0 · SAP ECC — Unreachable · resolved after 20 min" in shown
    await desk.change(ids[1], "resolved", status="resolved", resolved_at=desk.now())
    await desk.deliver()
    [message] = desk.messages()
    assert "1 still open" in message["text"]


async def test_what_waits_behind_a_suppressed_message_is_suppressed_with_it(desk: Desk) -> None:
    with_policy(desk, quiet_hours="22:00-07:00")
    at(desk, NIGHT)
    for customer in ("Acme", "Borealis"):
        await desk.open(customer=customer)
    await desk.deliver(limit=1)
    async with desk.store.read() as session:
        suppressed = select(Outbox).where(col(Outbox.status) == "suppressed")
        shown, entry = (await session.scalars(suppressed.order_by(col(Outbox.seq)))).all()
    assert (shown.payload["do"], entry.payload["do"]) == ("show", "timeline")
    assert (shown.ordering_key, shown.error) == (entry.ordering_key, entry.error)
    await desk.deliver()
    assert desk.messages() == []
    at(desk, MORNING)
    await desk.deliver()
    text = str(desk.messages())
    assert all(customer in text for customer in ("Acme", "Borealis"))


async def test_what_is_critical_passes_quiet_hours(desk: Desk) -> None:
    with_policy(desk, quiet_hours="22:00-07:00")
    at(desk, NIGHT)
    await desk.open(customer="Calm")
    await desk.open(customer="Loud", others=5)
    await desk.deliver()
    [message] = desk.messages()
    assert "Loud" in message["text"]


async def test_maintenance_is_recorded_and_not_announced(desk: Desk) -> None:
    await silence(desk, "provider", "sap-ecc")
    incident_id = await desk.open()
    await desk.deliver()
    assert [row.status for row in await slack_rows(desk.store)] == ["suppressed"] * 2
    over = desk.now() + timedelta(minutes=5)
    await desk.change(incident_id, "resolved", "Well.", status="resolved", resolved_at=over)
    desk.ahead = timedelta(hours=3)
    await desk.deliver()
    assert desk.messages() == []
    assert await notices(desk.store) == [("slack", "never")]
    async with desk.store.read() as session:
        rows = await session.scalars(select(Outbox).where(Outbox.channel == "slack"))
        assert all("maintenance of provider: patching" in (r.error or "") for r in rows)


async def test_what_ends_in_its_maintenance_stops_nobody_else_from_being_announced(
    desk: Desk,
) -> None:
    over = await desk.open(customer="Silenced")
    async with desk.store.read() as session:
        [connection] = await session.scalars(select(Connection))
    await silence(desk, "customer", str(connection.customer_id))
    await reopen(desk, over)
    end = desk.now() + timedelta(minutes=1)
    await desk.change(over, "resolved", "Well.", status="resolved", resolved_at=end)
    await desk.open(customer="Loud")
    desk.ahead = timedelta(minutes=2)
    await desk.deliver()
    [message] = desk.messages()
    assert "Loud" in message["text"]
    async with desk.store.read() as session:
        [never] = await session.scalars(select(Notice).where(Notice.incident_id == over))
    assert (never.step, never.round) == ("never", 1)


async def test_what_outlasts_its_maintenance_is_told_with_what_happened_before(
    desk: Desk,
) -> None:
    await silence(desk, "all")
    incident_id = await desk.open()
    await desk.deliver()
    await desk.change(incident_id, "changed", "Another probe failed.")
    await desk.deliver()
    desk.ahead = timedelta(hours=2, minutes=1)
    await desk.deliver()
    [message] = desk.messages()
    assert [r["text"] for r in message["replies"]] == [
        "Opened: it failed 3 probes.\nAnother probe failed."
    ]


async def test_a_window_for_another_customer_silences_nothing(desk: Desk) -> None:
    await silence(desk, "customer", "somebody else")
    await desk.open()
    await desk.deliver()
    assert len(desk.messages()) == 1


async def test_reminders_call_the_owner_in_the_thread_until_it_is_taken(desk: Desk) -> None:
    incident_id = await desk.open(owner="U012ABCDEF")
    await desk.deliver()
    desk.ahead = timedelta(hours=4, minutes=1)
    await desk.deliver()
    [message] = desk.messages()
    reminder = message["replies"][-1]["text"]
    assert reminder.startswith("Reminder 1: Acme · SAP ECC Unreachable, for 4 h")
    assert reminder.endswith("<@U012ABCDEF>")
    await acknowledge(desk.store, incident_id, by="Petra", now=desk.now())
    desk.ahead = timedelta(days=2)
    await desk.deliver()
    [message] = desk.messages()
    assert [r["text"].rpartition(" late: ")[2] for r in message["replies"]][2:] == [
        "Acknowledged by Petra."
    ]


async def test_a_reminder_overtaken_by_an_acknowledgement_is_not_said(desk: Desk) -> None:
    incident_id = await desk.open()
    await desk.deliver()
    desk.ahead = timedelta(hours=5)
    await evaluate_alerts(desk.store, desk.configuration, now=desk.now())
    await acknowledge(desk.store, incident_id, by="Petra", now=desk.now())
    await desk.deliver()
    [message] = desk.messages()
    assert not any("Reminder" in r["text"] for r in message["replies"])


async def test_a_snoozed_incident_is_quiet_until_then(desk: Desk) -> None:
    incident_id = await desk.open()
    await desk.deliver()
    await snooze(desk.store, incident_id, "4 hours", by="Petra", now=desk.now(), zone=UTC)
    desk.ahead = timedelta(hours=7)
    await desk.deliver()
    assert not any("Reminder" in r["text"] for r in desk.messages()[0]["replies"])
    desk.ahead = timedelta(hours=9)
    await desk.deliver()
    assert any("Reminder" in r["text"] for r in desk.messages()[0]["replies"])


async def test_a_muted_incident_is_edited_and_calls_nobody_until_the_mute_ends(
    desk: Desk,
) -> None:
    incident_id = await desk.open()
    await desk.deliver()
    await mute(desk.store, incident_id, 48, by="Petra", now=desk.now())
    desk.ahead = timedelta(hours=47)
    await desk.deliver()
    [message] = desk.messages()
    [muted] = [r["text"].partition(" until")[0] for r in message["replies"]][1:]
    assert muted.endswith("sent late: Muted by Petra")
    desk.ahead = timedelta(hours=53)
    await desk.deliver()
    assert "Reminder 1" in desk.messages()[0]["replies"][-1]["text"]


async def test_a_burst_beyond_the_cap_is_one_more_message(desk: Desk) -> None:
    with_policy(desk, cap_per_hour=4)
    for n in range(10):
        await desk.open(customer=f"Customer {n:02}")
    await desk.deliver(limit=200)
    messages = desk.messages()
    assert len(messages) == 4
    [grouped] = [m for m in messages if "in one message" in m["text"]]
    assert "7 incidents" in grouped["text"]
    assert all(f"Customer {n:02}" in str(messages) for n in range(10))
    desk.ahead = timedelta(hours=5)
    await desk.deliver(limit=200)
    assert len(desk.messages()) == 4
    [grouped] = [m for m in desk.messages() if "in one message" in m["text"]]
    assert sum("Reminder 1" in r["text"] for r in grouped["replies"]) == 7


async def reopen(desk: Desk, incident_id: str, number: int = 1) -> None:
    await desk.change(
        incident_id,
        "reopened",
        "Reopened: does not answer",
        status="open",
        resolved_at=None,
        acknowledged_at=None,
        reopened_at=desk.now(),
        round=number,
    )


async def test_two_who_decide_at_once_decide_once(desk: Desk) -> None:
    for n in range(8):
        await desk.open(customer=f"Customer {n}")
    now = desk.now() + timedelta(hours=5)
    await asyncio.gather(
        *(evaluate_alerts(desk.store, desk.configuration, now=now) for _ in range(4))
    )
    assert sorted(await notices(desk.store)) == [("slack", "first")] * 8


@pytest.mark.parametrize("step", ["decided", "said"])
async def test_a_group_whose_deliverer_was_killed_is_one_message(
    desk: Desk, as_if_unsettled: Any, step: str
) -> None:
    with_policy(desk, cap_per_hour=1)
    for n in range(3):
        await desk.open(customer=f"Customer {n}")
    if step == "decided":
        await evaluate_alerts(desk.store, desk.configuration, now=desk.now())
    else:
        await desk.deliver()
        await as_if_unsettled()
    await desk.deliver()
    await desk.deliver()
    [message] = desk.messages()
    assert "3 incidents" in message["text"]


async def test_a_reminder_waits_for_the_message_that_several_incidents_share(desk: Desk) -> None:
    with_policy(desk, cap_per_hour=1)
    for n in range(3):
        await desk.open(customer=f"Customer {n}")
    await evaluate_alerts(desk.store, desk.configuration, now=desk.now())
    shared = update(Outbox).where(col(Outbox.ordering_key).startswith("slack:fold:"))
    async with desk.store.write() as session:  # Slack took none of its attempts so far
        await session.execute(shared.values(next_attempt_at=desk.now() + timedelta(hours=6)))
    desk.ahead = timedelta(hours=5)
    await desk.deliver(limit=200)
    assert desk.messages() == []
    for minutes in (0, 1):
        desk.ahead = timedelta(hours=6, minutes=minutes)
        await desk.deliver(limit=200)
    [message] = desk.messages()
    assert "3 incidents" in message["text"]
    assert sum("Reminder 1" in reply["text"] for reply in message["replies"]) == 3


async def test_a_login_lost_moments_after_another_is_told_in_its_thread_at_once(
    desk: Desk,
) -> None:
    with_policy(desk, first_after_minutes=0)
    await desk.open(customer="Acme", kind=LOST)
    await desk.open(customer="Zenith", kind=LOST)
    await desk.deliver()
    [message] = desk.messages()
    assert "Acme" in message["text"]
    assert "Zenith · SAP ECC lost its login" in str(message["replies"])
    desk.ahead = ROOT_CAUSE_WAIT * 2  # it stayed alone
    await desk.deliver()
    assert ["Zenith" in row["text"] for row in desk.messages()] == [False, True]
