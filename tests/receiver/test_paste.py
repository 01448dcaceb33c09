"""A code or a token pair pasted by an operator, behind a product key."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from linekeeper.store.tables import Audit, ConnectLink
from tests.receiver.test_connect import (
    authorize_link,
    house,
    link_for,
    log_in,
    open_house,
    token_of,
)
from tests.reconnect.conftest import House

__all__ = ["house", "open_house"]  # fixtures


async def key_of(here: House, *scopes: str) -> str:
    return (await here.key(*scopes))["Authorization"].removeprefix("Bearer ")


async def test_without_a_key_that_may_nothing_is_stored_or_told(house: House) -> None:
    [connection, *_] = await house.connections()
    shown = await house.http.get("/paste")
    assert shown.status_code == 200
    assert "<script" not in shown.text
    form = {"connection": connection.makini_key, "by": "Petra", "login": "some-code"}
    for key, status in (("", 401), ("lk_wrong", 401), (await key_of(house, "tokens:read"), 403)):
        answer = await house.http.post("/paste", data={**form, "key": key})
        assert answer.status_code == status
        assert "some-code" not in answer.text
        assert connection.name not in answer.text
    assert await house.rows(ConnectLink) == []


async def test_a_pair_is_proven_matched_and_stored_and_says_who(house: House) -> None:
    connection, other, *_ = await house.connections()
    await house.lose_login(connection)
    await house.control(f"connections/{connection.makini_key}/restore-credentials")
    pair = (await house.makini.get(f"/_control/connections/{connection.makini_key}/tokens")).json()
    form = {"key": await key_of(house), "by": "Petra", "login": json.dumps(pair)}
    wrong = await house.http.post("/paste", data={**form, "connection": other.makini_key})
    assert wrong.status_code == 409
    answer = await house.http.post("/paste", data={**form, "connection": connection.makini_key})
    assert answer.status_code == 200, answer.text
    assert await token_of(house, connection) == pair["access_token"]
    assert (await house.connection(connection.id)).health == "healthy"
    kept = [a for a in await house.rows(Audit) if a.action == "login.renewed"]
    assert [a.by for a in kept] == ["Petra (key product)"]
    assert pair["access_token"] not in answer.text + str([a.model_dump() for a in kept])


async def test_a_code_is_exchanged_and_a_used_one_is_refused(house: House) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    code = parse_qs(urlsplit(location).query)["code"][0]
    form = {"key": await key_of(house), "by": "Petra", "connection": connection.name, "login": code}
    assert (await house.http.post("/paste", data=form)).status_code == 200
    again = await house.http.post("/paste", data=form)
    assert again.status_code == 502
    assert code not in again.text


@pytest.mark.parametrize(
    "change",
    [{"login": "{"}, {"login": "two words"}, {"by": " "}, {"connection": "nobody"}, {"login": ""}],
)
async def test_what_makes_no_sense_is_422_and_comes_back_to_the_form(
    house: House, change: dict[str, str]
) -> None:
    [connection, *_] = await house.connections()
    form = {
        "key": await key_of(house),
        "by": "P",
        "connection": connection.makini_key,
        "login": "c",
    }
    answer = await house.http.post("/paste", data={**form, **change})
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
