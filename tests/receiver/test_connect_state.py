"""A callback's state and code: each is good once, for its own link, until it ends."""

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlmodel import col

from linekeeper.access.links import make_state
from linekeeper.access.signing import Signer, load_signer
from linekeeper.clock import utcnow
from linekeeper.store import new_id
from linekeeper.store.tables import (
    ConnectLink,
)
from tests.receiver.test_connect import authorize_link, link_for, log_in, through, token_of
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures


@pytest.mark.parametrize("change", ["none", "cut", "swapped", "nonsense", "link-token"])
async def test_without_a_state_of_ours_the_callback_fails_closed(house: House, change: str) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    query = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
    match change:
        case "none":
            del query["state"]
        case "cut":
            query["state"] = query["state"][:-2]
        case "swapped":
            other = Signer(b"0" * 32)
            query["state"] = make_state(other, new_id(), now=utcnow())
        case "nonsense":
            query["state"] = "\u2028%00'\"" * 20
        case "link-token":
            query["state"] = path.rpartition("/")[2]
    answer = await house.http.get("/oauth/callback", params=query)
    assert answer.status_code == 400
    assert "<h1>" in answer.text
    assert await house.rows(ConnectLink, col(ConnectLink.used_at).is_not(None)) == []


async def test_a_state_is_good_for_one_callback_and_the_link_for_another(house: House) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    href = await authorize_link(house, path)
    location = await log_in(house, href, connection.makini_key, answer="deny")
    denied = await house.http.get(location)
    assert denied.status_code == 400
    assert "did not log in" in denied.text
    again = await house.http.get(await log_in(house, href, connection.makini_key))
    assert again.status_code == 400  # the state was used by the denial
    assert path in again.text
    assert (await through(house, path, connection.makini_key)).status_code == 200


async def test_a_callback_that_is_replayed_changes_nothing(house: House) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    assert (await house.http.get(location)).status_code == 200
    token = await token_of(house, connection)
    assert (await house.http.get(location)).status_code == 400
    assert await token_of(house, connection) == token


async def test_a_state_of_anothers_link_does_not_take_ones_login_there(house: House) -> None:
    connection, other, *_ = await house.connections()
    _, path = await link_for(house, connection)
    _, others_path = await link_for(house, other)
    theirs = await token_of(house, other)
    mine = await log_in(house, await authorize_link(house, path), connection.makini_key)
    others = await log_in(house, await authorize_link(house, others_path), other.makini_key)
    [code], [state] = (
        parse_qs(urlsplit(place).query)[name] for place, name in ((mine, "code"), (others, "state"))
    )
    swapped = await house.http.get("/oauth/callback", params={"code": code, "state": state})
    assert swapped.status_code == 409
    assert await house.rows(ConnectLink, col(ConnectLink.used_at).is_not(None)) == []
    assert await token_of(house, other) == theirs
    assert (await through(house, others_path, other.makini_key)).status_code == 200


async def test_a_code_that_was_used_is_refused_also_with_a_state_of_its_own(house: House) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    assert (await house.http.get(location)).status_code == 200
    token = await token_of(house, connection)
    second, _ = await link_for(house, connection)
    state = make_state(await load_signer(house.store), second.id, now=utcnow())
    [code] = parse_qs(urlsplit(location).query)["code"]
    again = await house.http.get("/oauth/callback", params={"code": code, "state": state})
    assert again.status_code == 502
    assert await token_of(house, connection) == token


async def test_an_expired_state_is_refused_and_leads_back_to_the_page(house: House) -> None:
    [connection, *_] = await house.connections()
    link, path = await link_for(house, connection)
    signer = await load_signer(house.store)
    old = make_state(signer, link.id, now=utcnow() - timedelta(minutes=31))
    answer = await house.http.get("/oauth/callback", params={"code": "x", "state": old})
    assert answer.status_code == 400
    assert path in answer.text
