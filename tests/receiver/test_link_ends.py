"""Whoever opens a link in its last minutes comes back after its end: nothing untrue is said."""

from datetime import timedelta

import pytest
from sqlmodel import col

from linekeeper.access.links import make_state
from linekeeper.access.signing import load_signer
from linekeeper.clock import utcnow
from linekeeper.store.tables import ConnectLink
from tests.receiver.test_connect import authorize_link, link_for, log_in
from tests.receiver.test_link_again import grow_old
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures

_FOR_A_NEW_ONE = "ask whoever sent you the link for a new one"


@pytest.mark.parametrize("how", ["denied", "refused", "system_away", "other", "away", "too_late"])
async def test_a_link_that_ended_meanwhile_is_not_said_to_work(house: House, how: str) -> None:
    connection, other, *_ = await house.connections()
    await house.lose_login(connection)
    link, path = await link_for(house, connection)
    answer = {"answer": "deny"} if how == "denied" else {}
    key = other.makini_key if how == "other" else connection.makini_key
    location = await log_in(house, await authorize_link(house, path), key, **answer)
    match how:
        case "refused":
            location = location.replace("code=", "code=x")
        case "system_away":
            await house.control(f"connections/{connection.makini_key}/go-offline")
        case "away":
            await house.control("settings", token="500")
        case "too_late":
            old = make_state(
                await load_signer(house.store), link.id, now=utcnow() - timedelta(minutes=31)
            )
            location = f"/oauth/callback?code=x&state={old}"
    await grow_old(house)
    shown = await house.http.get(location, timeout=30)
    assert shown.status_code in (400, 409, 502)
    assert "still works" not in shown.text
    assert "try again" not in shown.text.lower().replace("to try again", "")
    assert path not in shown.text
    assert "Your link has expired" in shown.text
    assert _FOR_A_NEW_ONE in shown.text
    assert ("Your login is kept" in shown.text) == (how == "system_away")


async def test_a_login_that_was_begun_before_the_end_is_taken_after_it(house: House) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    await grow_old(house)
    assert (await house.http.get(location)).status_code == 200
    assert (await house.connection(connection.id)).health == "healthy"


async def test_a_second_tab_reads_whether_the_connection_works(house: House) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    first = await log_in(house, await authorize_link(house, path), connection.makini_key)
    second = await log_in(house, await authorize_link(house, path), connection.makini_key)
    assert (await house.http.get(first)).status_code == 200
    for again in (second, first):
        shown = await house.http.get(again)
        assert shown.status_code == 400
        assert f"{connection.provider} is connected. There is nothing more to do" in shown.text
    await house.lose_login(connection)
    shown = await house.http.get(second)
    assert shown.status_code == 400
    assert f"{connection.provider} does not accept that login any more since" in shown.text
    assert await house.rows(ConnectLink, col(ConnectLink.used_at).is_(None)) == []
