"""A Makini that doesn't give the `state` back, with the app's `state_required` off."""

import re
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from linekeeper.clock import utcnow
from linekeeper.orchestrator import Blocks
from linekeeper.store.configuration import SharedConfiguration, save_blocks
from linekeeper.store.tables import ConnectAttempt, ConnectLink
from tests.receiver.test_connect import authorize_link, link_for, log_in
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures


async def require_state(house: House, *, required: bool) -> None:
    before = await house.rt.app("default")
    await house.rt.makini(before).aclose()  # another app gets another client
    app = before.model_copy(update={"state_required": required})
    await save_blocks(house.store, Blocks(apps=[app]), now=utcnow())
    # Read anew, not in five seconds.
    house.rt.configuration = SharedConfiguration(house.store, house.rt.settings).read


async def come_back(house: House, href: str, key: str, **form: str) -> httpx.Response:
    """Log in, and come back with all that Makini gives but the `state`."""
    query = parse_qs(urlsplit(await log_in(house, href, key, **form)).query)
    del query["state"]
    return await house.http.get("/oauth/callback", params=query)


@pytest.fixture
async def lenient(house: House) -> House:
    await require_state(house, required=False)
    return house


async def test_the_browsers_own_copy_of_the_state_stands_in_for_it_once(lenient: House) -> None:
    [connection, *_] = await lenient.connections()
    _, path = await link_for(lenient, connection)
    href = await authorize_link(lenient, path)
    kept = dict(lenient.http.cookies)
    assert (await come_back(lenient, href, connection.makini_key)).status_code == 200
    [link] = await lenient.rows(ConnectLink)
    assert link.used_for == connection.id
    assert not lenient.http.cookies
    lenient.http.cookies.update(kept)
    again = await come_back(lenient, href, connection.makini_key)
    assert again.status_code == 400
    assert "used already" in again.text
    assert len(await lenient.rows(ConnectAttempt)) == 1


async def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites_forms(
    lenient: House,
) -> None:
    [connection, *_] = await lenient.connections()
    _, path = await link_for(lenient, connection)
    cookie = (await lenient.http.get(path)).headers["set-cookie"].lower()
    for said in ("httponly", "samesite=lax", "max-age=1800", "path=/oauth/callback"):
        assert re.search(rf"; {said}(;|$)", cookie)


async def test_a_denial_without_the_state_is_told_with_the_link(lenient: House) -> None:
    [connection, *_] = await lenient.connections()
    _, path = await link_for(lenient, connection)
    href = await authorize_link(lenient, path)
    denied = await come_back(lenient, href, connection.makini_key, answer="deny")
    assert denied.status_code == 400
    assert path in denied.text


async def test_without_the_cookie_or_with_those_of_two_links_nothing_is_exchanged(
    lenient: House,
) -> None:
    connection, other, *_ = await lenient.connections()
    _, path = await link_for(lenient, connection)
    href = await authorize_link(lenient, path)
    _, others_path = await link_for(lenient, other)
    await authorize_link(lenient, others_path)
    refused = await come_back(lenient, href, connection.makini_key)
    assert refused.status_code == 400
    assert "did not begin here" in refused.text
    assert "accept cookies, and to have no other such link open" in refused.text
    assert not lenient.http.cookies  # the next attempt begins with one
    assert (await come_back(lenient, href, connection.makini_key)).status_code == 400
    assert await lenient.rows(ConnectAttempt) == []
    href = await authorize_link(lenient, path)
    assert (await come_back(lenient, href, connection.makini_key)).status_code == 200


async def test_a_forged_state_is_refused_whatever_the_browser_kept(lenient: House) -> None:
    [connection, *_] = await lenient.connections()
    _, path = await link_for(lenient, connection)
    location = await log_in(lenient, await authorize_link(lenient, path), connection.makini_key)
    [code] = parse_qs(urlsplit(location).query)["code"]
    forged = await lenient.http.get("/oauth/callback", params={"code": code, "state": "x"})
    assert forged.status_code == 400
    assert await lenient.rows(ConnectAttempt) == []


async def test_where_the_state_is_required_no_cookie_is_set_and_none_counts(house: House) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    await authorize_link(house, path)
    assert not house.http.cookies
    await require_state(house, required=False)
    href = await authorize_link(house, path)
    assert house.http.cookies
    await require_state(house, required=True)
    assert (await come_back(house, href, connection.makini_key)).status_code == 400
    assert await house.rows(ConnectAttempt) == []
