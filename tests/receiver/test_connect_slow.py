"""Makini takes its time over a login: the customer reads what is known, and all of it is done."""

import asyncio
from time import monotonic
from urllib.parse import parse_qs, urlsplit

import pytest

from linekeeper.access import time_limit
from linekeeper.store.leases import LOGINS, holding
from linekeeper.store.tables import Audit, ConnectAttempt, ConnectLink, PendingLogin
from tests.receiver.test_connect import authorize_link, link_for, log_in
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits ten seconds in a test."""
    monkeypatch.setattr(time_limit, "ANSWER_WITHIN", 0.3)


async def used(house: House) -> ConnectLink:
    """The link, once it is used up."""
    async with asyncio.timeout(60):
        while True:
            [link] = await house.rows(ConnectLink)
            [attempt] = await house.rows(ConnectAttempt)
            if link.used_at is not None and attempt.outcome == "done":
                return link
            await asyncio.sleep(0.05)


async def test_a_status_that_hangs_keeps_nobody_waiting_and_the_login_is_taken(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    await house.control(f"connections/{connection.makini_key}/slow", seconds=4)
    answer = await house.http.get(location)
    assert answer.status_code == 502
    assert "Your login is kept" in answer.text
    assert "You can close this page" in answer.text
    assert path in answer.text
    [pending] = await house.rows(PendingLogin)  # as a process that dies now leaves it
    assert "That login is kept" in (await house.http.get(path)).text
    again = await house.http.get(location)
    assert (again.status_code, "Your login is kept" in again.text) == (400, True)
    assert (await used(house)).used_for == connection.id
    assert await house.rows(PendingLogin, PendingLogin.id == pending.id) == []
    assert (await house.connection(connection.id)).health == "healthy"
    assert [incident.status for incident in await house.incidents()] == ["resolved"]
    assert [row.action for row in await house.rows(Audit)] == ["login.renewed"]


async def test_what_is_not_exchanged_yet_is_not_said_to_be_kept(house: House) -> None:
    """A renewal of the same connection is under way, which a login waits for."""
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    link, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    async with holding(house.store, LOGINS, "tests", subject=link.id, seconds=60):
        answer = await house.http.get(location)
        assert answer.status_code == 502
        assert "We have no answer from Makini yet" in answer.text
        assert await house.rows(PendingLogin) == []
    assert (await used(house)).used_for == connection.id
    assert (await house.connection(connection.id)).health == "healthy"


async def test_who_pastes_a_code_waits_no_longer_and_it_is_stored_all_the_same(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    code = parse_qs(urlsplit(location).query)["code"][0]
    await house.control(f"connections/{connection.makini_key}/slow", seconds=4)
    key = (await house.key())["Authorization"].removeprefix("Bearer ")
    form = {"key": key, "by": "Petra", "connection": connection.makini_key, "login": code}
    begun = monotonic()
    answer = await house.http.post("/paste", data=form)
    assert monotonic() - begun < 3
    assert answer.status_code == 502
    assert "Checking the login" in answer.text
    assert "it is kept, and Linekeeper tries again" in answer.text
    async with asyncio.timeout(60):
        while not [row for row in await house.rows(Audit) if row.action == "login.renewed"]:
            await asyncio.sleep(0.05)
    assert (await house.connection(connection.id)).health == "healthy"
    assert await house.rows(PendingLogin) == []


async def test_a_pasted_code_that_makini_has_not_taken_yet_is_not_said_to_be_kept(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    [connection, *_] = await house.connections()
    monkeypatch.setattr(time_limit, "ANSWER_WITHIN", 0.0)
    key = (await house.key())["Authorization"].removeprefix("Bearer ")
    form = {"key": key, "by": "Petra", "connection": connection.makini_key, "login": "no-code"}
    answer = await house.http.post("/paste", data=form)
    assert (answer.status_code, "Makini has not answered yet" in answer.text) == (502, True)
