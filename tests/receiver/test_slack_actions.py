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
from linekeeper.notify.buttons import buttons, dialog
from linekeeper.notify.view import load_views
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.store.tables import Audit, ConnectLink, Incident, IncidentEntry, Outbox, Reconnect
from tests.consumer.socket_peer import socket_peer, until
from tests.reconnect.conftest import House, open_house
from tests.reconnect.test_ask import Opened

__all__ = ["open_house"]  # a fixture

SECRET = "shh-signing"


async def lost(open_house: Opened, **more: str) -> House:
    """A house whose Slack buttons lead here, with a login lost."""
    here = await open_house(
        slack_bot_token=SecretStr("xoxb-1"),
        slack_channel="#line",
        slack_signing_secret=SecretStr(SECRET),
        **more,
    )
    [connection, *_] = await here.connections()
    await here.lose_login(connection)
    return here


@pytest.fixture
async def house(open_house: Opened) -> House:
    """One whose Slack buttons lead here, with a login lost and asked for."""
    here = await lost(open_house)
    await advance_due_cases(here.rt)
    return here


async def elements(here: House) -> dict[str, dict[str, Any]]:
    """The buttons the message has now, by action."""
    [incident] = await here.incidents()
    view = (await load_views(here.store, [incident.id]))[incident.id]
    return {one["action_id"]: one for one in buttons(view).to_dict()["elements"]}


def chosen(element: dict[str, Any]) -> dict[str, Any]:
    """What Slack sends for a press of `element`."""
    return {name: element.get(name) for name in ("action_id", "type", "value")}


async def fill_in(
    here: House, number: int, *, snooze: str = "", note: str = "", is_link_wanted: bool = False
) -> httpx.Response:
    """Submit the dialog, as Slack does for its view `number`."""
    [incident] = await here.incidents()
    view = dialog((await load_views(here.store, [incident.id]))[incident.id])
    values: dict[str, Any] = {}
    for block in view["blocks"]:
        element, name = block["element"], block["block_id"]
        options = {finding["text"]["text"]: finding for finding in element.get("options", [])}
        given = {
            "snooze": {"selected_option": options.get(snooze)},
            "note": {"value": note or None},
            "again": {"selected_options": list(options.values()) if is_link_wanted else []},
        }[name]
        values[name] = {element["action_id"]: {"type": element["type"], **given}}
    view |= {"id": f"V{number}", "hash": "1.a", "state": {"values": values}}
    user = {"id": "U0PETRA01", "username": "petra"}
    payload = {"type": "view_submission", "user": user, "view": view}
    return await press(here, body=urlencode({"payload": json.dumps(payload)}).encode())


async def press(
    here: House,
    *actions: dict[str, Any],
    secret: str = SECRET,
    age: float = 0,
    body: bytes = b"",
    by: str = "petra",
    channel: str = "",
) -> httpx.Response:
    user = {"id": f"U0{by.upper()}", "username": by}
    payload = {"type": "block_actions", "user": user, "actions": list(actions)}
    payload |= {"channel": {"id": channel}} if channel else {}
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
    for _ in range(2):
        assert (await fill_in(house, 1, snooze=label)).status_code == 200
    [case] = await house.rows(Reconnect)
    assert case.snoozed_until > utcnow()
    [audited] = await house.rows(Audit, col(Audit.action) == "incident.snoozed")
    assert "petra" in audited.by


async def test_send_again_makes_no_second_link_while_the_first_works(house: House) -> None:
    for number in (1, 1, 2):
        assert (await fill_in(house, number, is_link_wanted=True)).status_code == 200
    assert len(await house.rows(ConnectLink)) == 1
    assert len(await house.rows(Audit, col(Audit.action) == "reconnect.sent_again")) == 2


async def test_a_note_is_in_the_timeline_and_the_thread_once(house: House) -> None:
    for _ in range(2):
        assert (await fill_in(house, 7, note="The vendor is on it.")).status_code == 200
    [incident] = await house.incidents()
    entries = await house.rows(IncidentEntry, col(IncidentEntry.text).contains("vendor"))
    assert [entry.text for entry in entries] == ["Note by petra (Slack): The vendor is on it."]
    said = await house.rows(
        Outbox, col(Outbox.dedupe_key).contains(f"timeline:{incident.revision}")
    )
    assert "The vendor is on it." in said[0].payload["text"]


async def test_the_second_button_opens_the_dialog(open_house: Opened) -> None:
    async with socket_peer() as slack:
        here = await lost(open_house, slack_api_url=f"{slack.url}/api/")
        button = (await elements(here))["linekeeper_more"]
        assert (await press(here, chosen(button))).status_code == 200
        await until(lambda: slack.views)
        [incident] = await here.incidents()
        assert slack.views[0]["private_metadata"] == incident.id


async def test_who_acknowledges_second_is_told_who_was_first(open_house: Opened) -> None:
    async with socket_peer() as slack:
        here = await lost(open_house, slack_api_url=f"{slack.url}/api/")
        button = chosen((await elements(here))["linekeeper_acknowledge"])
        for name in ("ann", "ann", "petra"):
            answer = await press(here, button, by=name, channel="C0LINE")
            assert answer.status_code == 200
        await until(lambda: slack.notified)
        [notified] = slack.notified
        assert (notified["channel"], notified["user"]) == ("C0LINE", "U0PETRA")
        assert "was acknowledged by ann (Slack) before" in notified["text"]


async def test_a_dialog_saved_when_the_incident_is_over_says_so(house: House) -> None:
    [connection, *_] = await house.connections()
    await house.restore_login(connection)
    for _ in range(2):
        answer = await fill_in(house, 1, snooze="1 hour", note="Looked at it.")
        assert "is resolved already" in answer.json()["errors"]["snooze"]
    assert await house.rows(Audit, col(Audit.action) == "incident.noted") == []
    assert (await fill_in(house, 1, note="Looked at it.")).content == b""
    assert len(await house.rows(Audit, col(Audit.action) == "incident.noted")) == 1


async def test_a_message_has_two_buttons_and_the_rest_is_links(house: House) -> None:
    assert list(await elements(house)) == ["linekeeper_acknowledge", "linekeeper_more"]


async def test_what_slack_did_not_sign_just_now_does_nothing(house: House) -> None:
    button = chosen((await elements(house))["linekeeper_acknowledge"])
    assert (await press(house, button, secret="guess")).status_code == 401
    assert (await press(house, button, age=600)).status_code == 401
    unsigned = await house.http.post("/slack/actions", content=b"payload=%7B%7D")
    assert unsigned.status_code == 401
    assert [incident.status for incident in await house.incidents()] == ["open"]


@pytest.mark.parametrize("body", [b"payload=[]", b"payload=%7B", b"a=b", b"payload="])
async def test_a_signed_body_that_makes_no_sense_is_200_and_does_nothing(
    house: House, body: bytes
) -> None:
    assert (await press(house, body=body)).status_code == 200
    assert [incident.status for incident in await house.incidents()] == ["open"]


async def test_a_press_about_an_incident_that_is_gone_or_not_ours_does_nothing(
    house: House,
) -> None:
    strange = [
        {"action_id": "linekeeper_acknowledge", "value": "nothing"},
        {"action_id": "linekeeper_more", "value": "' OR 1=1"},
        {"action_id": "somebody_else", "value": "x"},
        {"action_id": None},
        {"action_id": "linekeeper_acknowledge", "value": "zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz"},
    ]
    assert (await press(house, *strange)).status_code == 200
    assert await house.rows(Incident, col(Incident.acknowledged_at).is_not(None)) == []
