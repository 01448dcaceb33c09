"""A link that is opened again says what became of the login, not only that the link was used."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from linekeeper.clock import utcnow
from linekeeper.reconnect.disconnect import disconnect
from linekeeper.store.tables import ConnectLink
from tests.receiver.test_connect import authorize_link, link_for, log_in, through
from tests.receiver.test_kept_login import logged_in_while_it_was_away
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures


async def grow_old(house: House) -> None:
    async with house.store.write() as session:
        before = utcnow() - timedelta(seconds=1)
        await session.execute(update(ConnectLink).values(expires_at=before))


async def test_a_used_link_says_whether_the_connection_works(house: House) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    assert (await through(house, path, connection.makini_key)).status_code == 200
    shown = await house.http.get(path)
    assert shown.status_code == 410
    assert f"{connection.provider} is connected" in shown.text

    await house.lose_login(connection)
    shown = await house.http.get(path)
    assert shown.status_code == 410
    assert "is connected" not in shown.text
    assert f"{connection.provider} does not accept that login any more since" in shown.text
    assert "Ask whoever sent you this link for a new one" in shown.text

    key = connection.makini_key
    await disconnect(house.rt, key, confirm=key, by="tests")
    assert "is not connected to us any more" in (await house.http.get(path)).text


@pytest.mark.parametrize("is_old", [False, True])
async def test_a_used_or_old_link_says_that_a_later_login_is_kept(
    house: House, is_old: bool
) -> None:
    [first, *_] = await house.connections()
    _, before = await link_for(house, first)
    if not is_old:
        assert (await through(house, before, first.makini_key)).status_code == 200
    connection, _ = await logged_in_while_it_was_away(house)
    assert connection.id == first.id
    if is_old:
        await grow_old(house)
    shown = await house.http.get(before)
    assert shown.status_code == 410
    assert "That login is kept" in shown.text


async def test_an_old_link_of_a_connection_that_works_asks_for_nothing(house: House) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    await grow_old(house)
    shown = await house.http.get(path)
    assert shown.status_code == 410
    assert f"{connection.provider} is connected: there is nothing you have to do" in shown.text
    await house.lose_login(connection)
    assert "for a new one" in (await house.http.get(path)).text


async def test_a_page_that_is_loaded_again_says_that_its_login_is_kept(house: House) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    await house.control(f"connections/{connection.makini_key}/go-offline")
    assert (await house.http.get(location, timeout=30)).status_code == 502
    again = await house.http.get(location)
    assert again.status_code == 400
    assert "Your login is kept" in again.text
