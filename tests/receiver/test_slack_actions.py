"""The buttons of an incident's message: signed by Slack, done once, audited, told."""

import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from pydantic import SecretStr
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.notify.buttons import buttons
from linekeeper.notify.queries import load_views
from linekeeper.notify.view import Links
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.store.tables import Audit, ConnectLink, Incident, Outbox, Reconnect
from tests.reconnect.conftest import House, open_house
from tests.reconnect.test_ask import Opened

__all__ = ["open_house"]  # a fixture

SECRET = "shh-signing"


@pytest.fixture
async def house(open_house: Opened) -> House:
    """One whose Slack buttons lead here, with a login lost and asked for."""
    here = await open_house(
        slack_bot_token=SecretStr("xoxb-1"),
        slack_channel="#line",
        slack_signing_secret=SecretStr(SECRET),
    )
    [one, *_] = await here.connections()
    await here.lose_login(one)
    await advance_due_cases(here.rt)
    return here


async def elements(here: House) -> dict[str, dict[str, Any]]:
    """The buttons the message has now, by action."""
    [incident] = await here.incidents()
    view = (await load_views(here.store, [incident.id]))[incident.id]
    links = Links(ui_url="http://prefect", buttons=True)
    return {one["action_id"]: one for one in buttons(view, links)["elements"]}


def chosen(element: dict[str, Any], label: str = "") -> dict[str, Any]:
    """What Slack sends for a press of `element`."""
    action = {"action_id": element["action_id"], "type": element["type"]}
    for option in element.get("options", []):
        if option["text"]["text"] == label:
            action["selected_option"] = option
    return {**action, "value": element.get("value")}


async def press(
    here: House, *actions: dict[str, Any], secret: str = SECRET, age: float = 0, body: bytes = b""
) -> httpx.Response:
    user = {"id": "U0PETRA01", "username": "petra"}
    payload = {"type": "block_actions", "user": user, "actions": list(actions)}
    body = body or urlencode({"payload": json.dumps(payload)}).encode()
    stamp = str(int(time.time() - age))
    mac = hmac.new(secret.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Slack-Request-Timestamp": stamp,
        "X-Slack-Signature": f"v0={mac}",
    }
    return await here.http.post("/slack/actions", content=body, headers=headers)


async def test_acknowledge_is_done_once_by_whom_slack_says_and_the_message_changes(
    house: House,
) -> None:
    button = (await elements(house))["linekeeper_acknowledge"]
    for _ in range(2):
        assert (await press(house, chosen(button))).status_code == 200
    [incident] = await house.incidents()
    assert (incident.status, incident.acknowledged_by) == (
        "acknowledged",
        "petra (Slack)",
    )
    kept = await house.rows(Audit, col(Audit.action) == "incident.acknowledged")
    assert len(kept) == 1
    assert "linekeeper_acknowledge" not in await elements(house)
    shown = await house.rows(Outbox, col(Outbox.dedupe_key).contains(f"show:{incident.revision}"))
    assert len(shown) == 1


@pytest.mark.parametrize("label", ["1 hour", "4 hours", "Monday"])
async def test_a_snooze_holds_reminders_back(house: House, label: str) -> None:
    menu = (await elements(house))["linekeeper_snooze"]
    assert (await press(house, chosen(menu, label))).status_code == 200
    [case] = await house.rows(Reconnect)
    assert case.snoozed_until > utcnow()
    [audited] = await house.rows(Audit, col(Audit.action) == "incident.snoozed")
    assert "petra" in audited.by


async def test_send_again_makes_no_second_link_while_the_first_works(house: House) -> None:
    button = (await elements(house))["linekeeper_send_again"]
    for _ in range(2):
        assert (await press(house, chosen(button))).status_code == 200
    assert len(await house.rows(ConnectLink)) == 1
    assert await house.rows(Audit, col(Audit.action) == "reconnect.sent_again")


async def test_what_slack_did_not_sign_just_now_does_nothing(house: House) -> None:
    button = chosen((await elements(house))["linekeeper_acknowledge"])
    assert (await press(house, button, secret="guess")).status_code == 401
    assert (await press(house, button, age=600)).status_code == 401
    unsigned = await house.http.post("/slack/actions", content=b"payload=%7B%7D")
    assert unsigned.status_code == 401
    assert [one.status for one in await house.incidents()] == ["open"]


@pytest.mark.parametrize("body", [b"payload=[]", b"payload=%7B", b"a=b", b"payload="])
async def test_a_signed_body_that_makes_no_sense_is_200_and_does_nothing(
    house: House, body: bytes
) -> None:
    assert (await press(house, body=body)).status_code == 200
    assert [one.status for one in await house.incidents()] == ["open"]


async def test_a_press_about_an_incident_that_is_gone_or_not_ours_does_nothing(
    house: House,
) -> None:
    strange = [
        {"action_id": "linekeeper_acknowledge", "value": "nothing"},
        {"action_id": "linekeeper_send_again", "value": "' OR 1=1"},
        {"action_id": "linekeeper_snooze", "selected_option": {"value": "9y:x"}},
        {"action_id": "somebody_else", "value": "x"},
        {"action_id": None},
        {"action_id": "linekeeper_acknowledge", "value": "zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz"},
    ]
    assert (await press(house, *strange)).status_code == 200
    assert await house.rows(Incident, col(Incident.acknowledged_at).is_not(None)) == []
