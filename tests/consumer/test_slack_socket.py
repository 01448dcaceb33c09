"""Socket Mode: what is pressed arrives through our own connection, once, whatever happens to it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from pydantic import SecretStr
from sqlmodel import col

from linekeeper.consumer import slack_socket
from linekeeper.consumer.slack_socket import SlackSockets
from linekeeper.interactions import interact
from linekeeper.notify.channels import troubles
from linekeeper.notify.view import Links
from linekeeper.store.tables import Audit, Incident, IncidentEntry, NoticeChannel
from tests.consumer.socket_peer import APP_TOKEN, SocketPeer, socket_peer, until
from tests.reconnect.conftest import House, open_house
from tests.reconnect.test_ask import Opened

__all__ = ["open_house"]  # a fixture
LINKS = Links("https://prefect.example")
USER = {"id": "U0PETRA01", "username": "petra"}


@pytest.fixture
async def peer() -> AsyncIterator[SocketPeer]:
    async with socket_peer() as served:
        yield served


@pytest.fixture
async def house(open_house: Opened, peer: SocketPeer) -> House:
    """One without a public address, with a login lost."""
    here = await open_house(
        slack_bot_token=SecretStr("xoxb-1"),
        slack_channel="#line",
        slack_app_token=SecretStr(APP_TOKEN),
        slack_api_url=f"{peer.url}/api/",
    )
    [connection, *_] = await here.connections()
    await here.lose_login(connection)
    return here


@pytest.fixture
async def sockets(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[SlackSockets]]:
    """Those of two consumers."""
    monkeypatch.setattr(slack_socket, "_PING_SECONDS", 0.1)
    both = [SlackSockets(house.rt, lambda: LINKS, silence=1.0) for _ in range(2)]

    async def keep(one: SlackSockets) -> None:
        while True:
            await one.step()
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(keep(one)) for one in both]
    yield both
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    for slack_sockets in both:
        await slack_sockets.close()


async def incident_of(house: House) -> Incident:
    [incident] = await house.incidents()
    return incident


def acknowledge(incident: Incident) -> dict[str, Any]:
    action = {"action_id": "linekeeper_acknowledge", "type": "button", "value": incident.id}
    return {"type": "block_actions", "user": USER, "actions": [action]}


def submission(incident: Incident, number: int, note: str, snooze: str = "") -> dict[str, Any]:
    chosen = {"value": snooze} if snooze else None
    values = {
        "note": {"note": {"type": "plain_text_input", "value": note}},
        "snooze": {"snooze": {"type": "static_select", "selected_option": chosen}},
    }
    view = {
        "id": f"V{number}",
        "hash": f"{number}.abc",
        "callback_id": "linekeeper_dialog",
        "private_metadata": incident.id,
        "state": {"values": values},
    }
    return {"type": "view_submission", "user": USER, "view": view}


async def test_a_press_is_done_and_acknowledged(
    house: House, peer: SocketPeer, sockets: list[SlackSockets]
) -> None:
    await until(lambda: len(peer.connections) == 2)
    incident = await incident_of(house)
    await peer.press(acknowledge(incident))
    await until(peer.taken)
    assert (await incident_of(house)).acknowledged_by == "petra (Slack)"


async def test_the_second_button_opens_a_dialog_and_what_is_filled_in_is_done_once(
    house: House, peer: SocketPeer, sockets: list[SlackSockets]
) -> None:
    await until(lambda: len(peer.connections) == 2)
    incident = await incident_of(house)
    more = {"action_id": "linekeeper_more", "type": "button", "value": incident.id}
    await peer.press(
        {"type": "block_actions", "user": USER, "actions": [more], "trigger_id": "1.2.x"}
    )
    await until(lambda: peer.views)
    [view] = peer.views
    assert view["private_metadata"] == incident.id
    assert [block["block_id"] for block in view["blocks"]] == ["snooze", "note", "again"]

    for _ in range(3):  # Slack missed the acknowledgement
        await peer.press(submission(incident, 1, "The vendor is on it.", "4h"))
    await until(peer.taken)
    for action in ("incident.noted", "incident.snoozed"):
        assert len(await house.rows(Audit, col(Audit.action) == action)) == 1
    [entry] = await house.rows(IncidentEntry, col(IncidentEntry.text).contains("vendor"))
    assert entry.text == "Note by petra (Slack): The vendor is on it."
    assert (await incident_of(house)).snoozed_until is not None


async def test_what_is_saved_on_an_incident_that_is_over_is_refused_in_the_dialog(
    house: House, peer: SocketPeer, sockets: list[SlackSockets]
) -> None:
    await until(lambda: len(peer.connections) == 2)
    incident = await incident_of(house)
    [connection, *_] = await house.connections()
    await house.restore_login(connection)
    assert (await incident_of(house)).status == "resolved"
    pressed = await peer.press(submission(incident, 1, "The vendor is on it.", "4h"))
    await until(peer.taken)
    assert peer.answers[pressed]["response_action"] == "errors"
    assert "is resolved already" in peer.answers[pressed]["errors"]["snooze"]
    assert await house.rows(Audit, col(Audit.action) == "incident.noted") == []


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("many", [16, pytest.param(100, marks=pytest.mark.soak)])
async def test_in_a_storm_of_reconnects_nothing_is_lost_and_nothing_done_twice(
    house: House, peer: SocketPeer, sockets: list[SlackSockets], many: int
) -> None:
    """And of a hundred, p95 is within a second, or ten times what the work alone takes.

    Counted from when Slack has last sent it, for what it sends into a connection that breaks it
    sends again.
    """
    incident = await incident_of(house)

    wanted = [f"note number {number}." for number in range(many)]
    for number, text in enumerate(wanted):
        await peer.press(submission(incident, number, text))
        match number % 8:
            case 1:
                await peer.drop()
            case 3:
                await peer.ask_to_reconnect()
            case 5:
                peer.stale = 2
                await peer.drop()
            case 7:
                await peer.send_again()
                await peer.send_again()
        await asyncio.sleep(0.05)
        await until(partial(peer.taken, 5), seconds=120)  # people press no faster than it is done

    await until(peer.taken, seconds=120)
    entries = await house.rows(IncidentEntry, col(IncidentEntry.text).contains("note number"))
    said = sorted(entry.text.partition(": ")[2] for entry in entries)
    assert said == sorted(wanted)
    assert len(peer.sent) > len(wanted)  # some came more than once
    assert len(peer.took) == len(wanted)
    if many >= 100:
        alone = await _alone(house, incident)
        p95, limit = _p95(peer.took), max(1.0, 10 * _p95(alone))
        print(f"acknowledged: p95 {p95:.3f} s of {many}; the work alone {_p95(alone):.3f} s")
        assert p95 < limit


async def _alone(house: House, incident: Incident) -> list[float]:
    """The seconds each of twenty takes without a connection."""
    alone = []
    for number in range(20):
        begun = time.monotonic()
        await interact(house.rt, submission(incident, 1_000 + number, "a word of comparison"))
        alone.append(time.monotonic() - begun)
    return alone


def _p95(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.95)]


async def test_a_token_that_is_refused_is_said_until_it_works(
    house: House, peer: SocketPeer, sockets: list[SlackSockets]
) -> None:
    await until(lambda: len(peer.connections) == 2)
    peer.refusal = "invalid_auth"
    await peer.drop()

    async def of_socket() -> list[NoticeChannel]:
        return [each for each in await troubles(house.store) if each.channel == "Socket Mode"]

    async def is_known() -> bool:
        return bool(await of_socket())

    await until(is_known)
    [trouble] = await of_socket()
    assert "xapp-" in trouble.trouble
    assert APP_TOKEN not in trouble.trouble
    peer.refusal = ""

    async def is_over() -> bool:
        return not await of_socket()

    await until(is_over)
    incident = await incident_of(house)
    await peer.press(acknowledge(incident))
    await until(peer.taken)
    assert (await incident_of(house)).status == "acknowledged"
