"""After an outage of Slack: what is open, and urgent, first; what is over shares one message."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlmodel import col

from linekeeper.incidents.operate import mute
from linekeeper.notify import slack_channel
from linekeeper.notify.channels import troubles
from linekeeper.notify.policy import BROKEN_AFTER
from linekeeper.notify.slack_channel import Pacer
from linekeeper.notify.view import Links
from linekeeper.outbox.dispatcher import Dispatcher
from linekeeper.outbox.senders.slack import SlackSender
from linekeeper.store.tables import Outbox
from sandbox.slack import SlackFaults
from tests.notify.conftest import Desk
from tests.notify.test_evaluate import with_policy
from tests.notify.test_fallback_channels import Pager, also, deliver, pager  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

ENDED = {"sent", "superseded", "suppressed", "skipped"}


async def _minutes_pass(desk: Desk, minutes: int) -> None:
    """The deliverer looks every minute."""
    for _ in range(minutes):
        desk.ahead += timedelta(minutes=1)
        await deliver(desk)


async def _ends(desk: Desk, ids: Sequence[str]) -> None:
    for incident in ids:
        values = {"status": "resolved", "resolved_at": desk.now()}
        await desk.change(incident, "resolved", "It answers again.", **values)


def _own(desk: Desk) -> list[str]:
    """The connections of the messages that tell of one incident."""
    texts = [message["text"] for message in desk.messages() if "incidents" not in message["text"]]
    return sorted(text.partition(" · ")[0].split(" ", 1)[1] for text in texts)


async def test_the_cap_is_not_spent_on_what_was_over_before_slack_was_back(desk: Desk) -> None:
    with_policy(desk, cap_per_hour=6)
    desk.slack.faults = SlackFaults(mode="500")
    over = []
    for n in range(6):
        over.append(await desk.open(customer=f"Over {n}"))
        await _minutes_pass(desk, 1)
    open_ones = [await desk.open(customer=f"Lost {n}") for n in range(3)]
    await _minutes_pass(desk, 2)
    await _ends(desk, over)
    await _minutes_pass(desk, 3)
    assert desk.messages() == []
    desk.slack.faults = SlackFaults()
    await _minutes_pass(desk, 12)
    assert _own(desk) == ["Lost 0", "Lost 1", "Lost 2"]
    [shared] = [message for message in desk.messages() if "incidents" in message["text"]]
    assert "6 incidents that were over before anybody could be notified here" in shared["text"]
    assert all(f"Over {n}" in str(shared) for n in range(6))
    late = await desk.open(customer="Late")
    await _minutes_pass(desk, 1)
    assert "Late" in _own(desk), late
    async with desk.store.read() as session:
        rows = list(await session.scalars(select(Outbox).where(col(Outbox.channel) == "slack")))
    assert {row.status for row in rows} <= ENDED
    assert len(open_ones) == 3


async def test_what_is_urgent_comes_first_within_the_cap(desk: Desk) -> None:
    with_policy(desk, cap_per_hour=4)
    desk.slack.faults = SlackFaults(mode="500")
    for n in range(6):
        await desk.open(customer=f"Slow {n}", kind="degraded")
        await _minutes_pass(desk, 1)
    for n in range(2):
        await desk.open(customer=f"Lost {n}", kind="reauthorization_required")
        await _minutes_pass(desk, 1)
    desk.slack.faults = SlackFaults()
    await _minutes_pass(desk, 15)
    own = _own(desk)
    assert {"Lost 0", "Lost 1"} <= set(own)
    assert len(desk.messages()) <= 4
    assert all(f"Slow {n}" in str(desk.messages()) for n in range(6))


async def test_whom_others_told_meanwhile_hears_of_the_end_from_them(
    desk: Desk,
    pager: Pager,  # noqa: F811
) -> None:
    also(desk, pager)
    desk.slack.faults = SlackFaults(mode="500")
    ids = [await desk.open(customer=f"Over {n}") for n in range(3)]
    await _minutes_pass(desk, int(BROKEN_AFTER / timedelta(minutes=1)) + 12)
    assert "Over 0" in str(pager.heard)
    await _ends(desk, ids)
    desk.slack.faults = SlackFaults()
    await _minutes_pass(desk, 12)
    assert "Resolved" in str(pager.heard)
    assert len(desk.messages()) == 1


class Turn(Pacer):
    """Its first message waits for its turn until `may_go`."""

    def __init__(self) -> None:
        super().__init__(0)
        self.waits, self.may_go = asyncio.Event(), asyncio.Event()

    async def turn(self, channel: str) -> None:
        self.waits.set()
        await self.may_go.wait()


async def test_what_another_process_is_sending_is_not_decided_anew(desk: Desk) -> None:
    desk.slack.faults = SlackFaults(mode="500")
    incident = await desk.open(customer="Acme")
    await _minutes_pass(desk, 1)
    desk.slack.faults = SlackFaults()
    desk.ahead += timedelta(minutes=5)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        sending = Turn()
        group.create_task(desk.deliver(owner="another", pacer=sending))
        await sending.waits.wait()
        await mute(desk.store, incident, 1, by="ann", now=desk.now())
        await desk.open(customer="Other")
        await desk.deliver()
        assert _own(desk) == ["Other"]
        sending.may_go.set()
    assert _own(desk) == ["Acme", "Other"]
    desk.ahead += timedelta(minutes=5)
    await _ends(desk, [incident])
    await _minutes_pass(desk, 2)
    [message] = [each for each in desk.messages() if "Acme" in each["text"]]
    assert "resolved" in message["text"]


async def test_a_channel_that_another_process_could_not_reach_is_reached_again(desk: Desk) -> None:
    """Who always runs reached it before, and does again."""
    sender = SlackSender(desk.store, clock=desk.now, pacer=Pacer(0))
    async with Dispatcher(desk.store, "service", sender, clock=desk.now) as service:
        await desk.open(customer="Before")
        await sender.evaluate(desk.configuration, Links())
        await service.drain(50)
        desk.slack.faults = SlackFaults(mode="500")
        await desk.open(customer="Acme")
        await desk.deliver()  # a flow run, which ends after that
        assert await troubles(desk.store)
        desk.slack.faults = SlackFaults()
        desk.ahead += timedelta(minutes=1)
        await sender.evaluate(desk.configuration, Links())
        await service.drain(50)
    assert _own(desk) == ["Acme", "Before"]
    assert await troubles(desk.store) == []


async def test_what_slack_took_without_an_answer_says_its_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was muted before anybody knew that its message stands there."""
    monkeypatch.setattr(slack_channel, "TIMEOUT_SECONDS", 0.3)
    desk.slack.faults = SlackFaults(mode="lost", method="chat.postMessage", timeout_seconds=0.6)
    incident = await desk.open(customer="Acme")
    await desk.deliver()
    assert _own(desk) == ["Acme"]
    monkeypatch.undo()
    desk.slack.faults = SlackFaults()
    await mute(desk.store, incident, 1, by="ann", now=desk.now())
    await desk.open(customer="Other")
    desk.ahead += timedelta(seconds=5)
    await desk.deliver()
    assert _own(desk) == ["Acme", "Other"]
    await _minutes_pass(desk, 3)
    await _ends(desk, [incident])
    await _minutes_pass(desk, 2)
    [message] = [each for each in desk.messages() if "Acme" in each["text"]]
    assert "resolved" in message["text"]
