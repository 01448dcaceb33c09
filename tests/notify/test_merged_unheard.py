"""What nobody was notified of, and goes on in another incident: nothing is posted about it."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlmodel import col

from linekeeper.config import HealthPolicy
from linekeeper.incidents.conclude import conclude
from linekeeper.notify.evaluate import evaluate_alerts
from linekeeper.store.tables import Outbox
from sandbox.slack import SlackFaults
from tests.notify.conftest import Desk
from tests.notify.test_evaluate import with_policy
from tests.notify.test_fallback_channels import Pager, also, deliver, pager  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


async def _become_one(desk: Desk) -> None:
    """What the next sweep concludes: five of a provider fail alike, so they are one incident."""
    async with desk.store.write() as session:
        changes = await conclude(desk.store, session, policy=HealthPolicy(), now=desk.now())
    assert sum(change.what == "merged" for change in changes) == 4


async def _outbox(desk: Desk, channel: str) -> list[Any]:
    async with desk.store.read() as session:
        rows = select(Outbox).where(col(Outbox.channel) == channel).order_by(col(Outbox.seq))
        return list(await session.scalars(rows))


async def _is_notified_once(desk: Desk) -> None:
    """One message stands in the channel, and it counts all of them."""
    everything = str(desk.messages())
    assert "another incident" not in everything
    assert "part of" not in everything
    [head] = desk.messages()
    assert all(f"Acme {n}" in str(head) for n in range(5))
    assert {row.status for row in await _outbox(desk, "slack")} <= {
        "sent",
        "superseded",
        "suppressed",
    }


@pytest.mark.parametrize("shares_a_message", [False, True])
async def test_decided_and_not_yet_sent(desk: Desk, shares_a_message: bool) -> None:
    """The consumer stops between the decision and the post; over the hour's limit several were to
    share one message."""
    if shares_a_message:
        with_policy(desk, cap_per_hour=2)
    for n in range(5):
        await desk.open(customer=f"Acme {n}")
    await evaluate_alerts(desk.store, desk.configuration, now=desk.now())
    await _become_one(desk)
    await desk.deliver()
    await _is_notified_once(desk)


async def test_slack_asked_to_wait(desk: Desk) -> None:
    """What Slack refused for the time being was posted nowhere."""
    desk.slack.faults = SlackFaults(mode="429")
    for n in range(5):
        await desk.open(customer=f"Acme {n}")
    await desk.deliver()
    assert desk.messages() == []
    await _become_one(desk)
    desk.slack.faults = SlackFaults()
    for _ in range(6):
        desk.ahead += timedelta(minutes=2)
        await desk.deliver()
    await _is_notified_once(desk)


async def test_what_was_posted_is_edited_to_say_so(desk: Desk) -> None:
    for n in range(5):
        await desk.open(customer=f"Acme {n}")
    await desk.deliver()
    await _become_one(desk)
    await desk.deliver()
    assert str(desk.messages()).count("continued in another incident") >= 4


async def test_others_hear_nothing_of_it_either(
    desk: Desk,
    pager: Pager,  # noqa: F811
) -> None:
    also(desk, pager)
    desk.configuration = desk.configuration.model_copy(update={"slack": None})
    for n in range(5):
        await desk.open(customer=f"Acme {n}")
    for _ in range(2):  # others are notified of what was to be said in Slack
        await evaluate_alerts(desk.store, desk.configuration, now=desk.now())
    await _become_one(desk)
    for _ in range(3):
        await deliver(desk)
        desk.ahead += timedelta(minutes=2)
    assert set(pager.titles) == {"Linekeeper: sap-ecc · 5 connections"}


async def test_others_who_heard_of_it_hear_that_it_goes_on(
    desk: Desk,
    pager: Pager,  # noqa: F811
) -> None:
    also(desk, pager)
    desk.configuration = desk.configuration.model_copy(update={"slack": None})
    for n in range(5):
        await desk.open(customer=f"Acme {n}")
    for _ in range(2):
        await deliver(desk)
    await _become_one(desk)
    for _ in range(2):
        await deliver(desk)
    assert "Part of a wider incident: Acme 1" in str(pager.heard)
    assert "Resolved" not in str(pager.heard)
