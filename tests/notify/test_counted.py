"""Who joins an incident of many, and who is out of it again, is counted in one reply."""

from datetime import timedelta
from typing import Any

import pytest

from sandbox.slack import SlackFaults
from tests.notify.conftest import Desk
from tests.notify.test_joined_in_summary import LOST, _connections
from tests.notify.test_merged import become

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

MANY = 30


async def _outage(desk: Desk) -> list[str]:
    """Thirty of one provider, of whom sixteen are lost at once; the ids of all."""
    for n in range(MANY):
        await desk.open(customer=f"Customer {n:02}", kind=LOST)
    ids = await _connections(desk)
    await become(desk, ids, "healthy")
    desk.ahead += timedelta(hours=2)
    await become(desk, ids[:16], LOST)
    await desk.deliver(limit=1_000)
    return ids


def _head(desk: Desk) -> dict[str, Any]:
    [head] = [each for each in desk.messages() if "sap-ecc · " in each["text"]]
    return head


def _replies(desk: Desk) -> list[str]:
    return [str(reply["text"]) for reply in _head(desk)["replies"]]


async def test_an_outage_of_many_has_one_reply_that_counts(desk: Desk) -> None:
    ids = await _outage(desk)
    begun = _replies(desk)
    for n in range(16, MANY):
        await become(desk, ids[n : n + 1], LOST)
        await desk.deliver()
    [counted] = _replies(desk)[len(begun) :]
    assert "30 connections" in counted
    assert "Customer 00 · SAP ECC" in counted
    assert "and 10 more" in counted
    for n in range(10):
        await become(desk, ids[n : n + 1], "healthy")
        await desk.deliver()
    [counted] = _replies(desk)[len(begun) :]
    assert "20 of them affected now" in counted


async def test_what_it_counts_is_true_once_it_is_over(desk: Desk) -> None:
    ids = await _outage(desk)
    await become(desk, ids[16:], LOST)
    await desk.deliver()
    await become(desk, ids, "healthy")
    await desk.deliver()
    [counted] = [reply for reply in _replies(desk) if "30 connections" in reply]
    assert "none of them is affected any more" in counted


async def test_another_outage_of_them_has_a_reply_of_its_own(desk: Desk) -> None:
    ids = await _outage(desk)
    await become(desk, ids[16:20], LOST)
    await desk.deliver()
    await become(desk, ids, "healthy")
    await desk.deliver()
    await become(desk, ids[:16], LOST)
    await desk.deliver()
    await become(desk, ids[16:18], LOST)
    await desk.deliver()
    before, now = [reply for reply in _replies(desk) if "connections so far" in reply]
    assert "none of them is affected any more" in before
    assert "18 connections" in now


@pytest.mark.parametrize("code", ["edit_window_closed", "cant_update_message"])
async def test_a_channel_that_can_not_edit_gets_one_line_a_minute_at_most(
    desk: Desk, code: str
) -> None:
    ids = await _outage(desk)
    desk.slack.faults = SlackFaults(mode=code, method="chat.update")
    before = len(desk.messages()) + len(_said(desk))
    for n in range(16, MANY):
        desk.ahead -= timedelta(minutes=2) - timedelta(seconds=20)
        await become(desk, ids[n : n + 1], LOST)
        await desk.deliver()
    for _ in range(4):
        desk.ahead += timedelta(minutes=1)
        await desk.deliver()
    lasted = (MANY - 16) * 20 / 60 + 4
    assert len(desk.messages()) + len(_said(desk)) - before <= 2 * (lasted + 1)
    assert "30 connections" in str(desk.messages()[-1])
    assert any("30 connections" in reply for reply in _said(desk))


def _said(desk: Desk) -> list[str]:
    return [str(reply["text"]) for head in desk.messages() for reply in head["replies"]]
