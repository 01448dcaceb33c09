"""The customer's way: the page, Makini Link's real login page, and back."""

import asyncio
import html
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.access.links import link_url, make_link, make_state, read_link, read_state
from linekeeper.access.signing import Signer, load_signer
from linekeeper.clock import utcnow
from linekeeper.customers.naming import label
from linekeeper.reconnect.disconnect import disconnect
from linekeeper.store.tables import (
    Audit,
    ConnectAttempt,
    Connection,
    ConnectLink,
    Credential,
    Transition,
)
from linekeeper.tokens.stored import load_tokens
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures


async def link_for(
    here: House, connection: Connection | None, *, system: str = "", **more: Any
) -> tuple[ConnectLink, str]:
    async with here.store.write() as session:
        link = await make_link(
            session,
            app="default",
            connection_id=connection.id if connection else None,
            customer_id=connection.customer_id if connection else None,
            system=system or (connection.provider if connection else ""),
            by="tests",
            now=utcnow(),
            **more,
        )
    signer = await load_signer(here.store)
    return link, link_url(signer, "", link.id)


async def authorize_link(here: House, path: str) -> str:
    shown = await here.http.get(path)
    assert shown.status_code == 200, shown.text
    [href] = re.findall(r'<a class="go" href="([^"]+)"', shown.text)
    return html.unescape(href)


async def log_in(here: House, href: str, key: str, **form: str) -> str:
    """Fill in Makini Link's page; returns where it sends the browser."""
    asked = {name: values[0] for name, values in parse_qs(urlsplit(href).query).items()}
    sent = {"connection": key, "username": "pat", "password": "new", "answer": "approve"}
    answer = await here.makini.post("/oauth/authorize", data={**asked, **sent, **form})
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


async def through(here: House, path: str, key: str, **form: str) -> httpx.Response:
    return await here.http.get(await log_in(here, await authorize_link(here, path), key, **form))


async def token_of(here: House, connection: Connection) -> str:
    async with here.store.read() as session:
        return (await load_tokens(here.store, session, [connection.id]))[connection.id].access


async def test_logging_in_again_mends_the_connection_and_uses_the_link_up(house: House) -> None:
    """C4: the new token is stored, verified, and the connection works again."""
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    answer = await through(house, path, connection.makini_key)
    assert answer.status_code == 200
    assert "Done" in answer.text
    assert (await house.connection(connection.id)).health == "healthy"
    assert [incident.status for incident in await house.incidents()] == ["resolved"]
    bearer = {"Authorization": f"Bearer {await token_of(house, connection)}"}
    status = await house.makini.get("/api/integrations/current", headers=bearer)
    assert status.json()["data"]["sync_status"] == "done"
    [row] = await house.rows(Credential, Credential.connection_id == connection.id)
    assert row.refresh_token is not None
    assert not row.minted
    [kept] = await house.rows(ConnectLink)
    assert kept.used_at is not None
    assert kept.used_for == connection.id
    moves = await house.rows(Transition, Transition.connection_id == connection.id)
    assert [m.source for m in moves if m.after == "healthy"][-1] == "reconnect"
    shown = await house.http.get(path)
    assert shown.status_code == 410
    assert "already" in shown.text
    assert [a.action for a in await house.rows(Audit)] == ["login.renewed"]


async def test_a_login_whose_id_tells_whose_it_is_lists_nothing(house: House) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    before = await listings(house)
    assert before > 0
    assert (await through(house, path, connection.makini_key)).status_code == 200
    assert await listings(house) == before
    assert (await house.connection(connection.id)).health == "healthy"


async def listings(here: House) -> int:
    calls = (await here.makini.get("/_control/calls")).json()["calls"]
    return int(calls.get("GET /api/system/connections", 0))


async def test_opening_the_page_changes_nothing(house: House) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    for _ in range(3):
        await authorize_link(house, path)
        assert (await house.http.head(path)).status_code == 200
    assert await house.rows(ConnectAttempt) == []
    assert (await through(house, path, connection.makini_key)).status_code == 200


async def test_the_page_says_which_system_why_what_and_has_no_script(house: House) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    shown = await house.http.get(path)
    for said in (connection.provider, "has not accepted the stored login", "two or three minutes"):
        assert said in html.unescape(shown.text)
    assert "<script" not in shown.text
    assert 'name="viewport"' in shown.text
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert shown.headers["cache-control"] == "no-store"


async def test_a_system_called_like_markup_is_shown_as_text(house: House) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection, system="<b>x</b>\"'")
    shown = await house.http.get(path)
    assert "<b>x" not in shown.text


async def test_a_link_that_expired_or_was_cut_says_so(house: House) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    assert (await house.http.get(path[:-3])).status_code == 404
    assert (await house.http.get("/connect/%00")).status_code == 404
    async with house.store.write() as session:
        await session.execute(update(ConnectLink).values(expires_at=utcnow()))
    shown = await house.http.get(path)
    assert shown.status_code == 410
    assert "has expired" in shown.text


async def test_a_link_that_expired_says_until_when_it_worked(house: House) -> None:
    """Not every link is good for seven days: one of a login that ends lives until after that."""
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    ended = utcnow() - timedelta(days=2)
    async with house.store.write() as session:
        await session.execute(update(ConnectLink).values(expires_at=ended))
    shown = (await house.http.get(path)).text
    assert f"It worked until {ended:%-d %B %Y, %H:%M} UTC." in shown


async def test_another_system_than_asked_for_is_refused_explained_and_loses_nothing(
    house: House,
) -> None:
    connection, other, *_ = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    answer = await through(house, path, other.makini_key)
    assert answer.status_code == 409
    assert "That was another system" in answer.text
    # As people name it: Makini's status has only the word for its kind of system.
    named = label(other.name.split(" · ")[0], other.provider, other.name, None)
    assert named.endswith(" · IBM Maximo")
    shown = html.unescape(answer.text)
    assert "not the one that was asked for" in shown
    customer = other.name.split(" · ")[0]
    assert not any(each in shown for each in (named, customer, other.email, other.provider or "?"))
    async with house.store.read() as session:
        said = await session.scalars(select(col(Audit.detail)))
        assert f"it was another system, {named}" in str(list(said))
    assert (await house.connection(connection.id)).health == "reauthorization_required"
    # The other's old pair is dead at Makini, so its new one is kept.
    bearer = {"Authorization": f"Bearer {await token_of(house, other)}"}
    status = await house.makini.get("/api/integrations/current", headers=bearer)
    assert status.json()["data"]["id"] == other.makini_key
    assert (await through(house, path, connection.makini_key)).status_code == 200


async def test_the_sandboxs_slug_and_the_lists_name_are_the_same_system(house: House) -> None:
    _, path = await link_for(house, None, system="UpKeep")
    answer = await through(house, path, "new:upkeep", username="it@acme.example")
    assert answer.status_code == 200
    _, path = await link_for(house, None, system="UpKeep")
    answer = await through(house, path, "new:fiix", username="it@acme.example")
    assert answer.status_code == 409


@pytest.mark.parametrize(("system", "called"), [("Fiix", "Fiix"), ("", "Your system")])
async def test_a_new_system_becomes_a_connection_of_its_customer(
    house: House, system: str, called: str
) -> None:
    [connection, *_] = await house.connections()
    async with house.store.write() as session:
        await make_link(
            session,
            app="default",
            connection_id=None,
            customer_id=connection.customer_id,
            system=system,
            by="tests",
            now=utcnow(),
        )
    [link] = await house.rows(ConnectLink)
    path = link_url(await load_signer(house.store), "", link.id)
    answer = await through(house, path, "new:fiix")
    assert answer.status_code == 200
    assert f"{called} is connected and the new login works" in answer.text
    assert "again" not in answer.text
    assert len(await house.connections()) == 7
    [link] = await house.rows(ConnectLink)
    made = await house.connection(str(link.used_for))
    assert (made.customer_id, made.provider) == (connection.customer_id, "Fiix")
    assert made.health == "healthy"
    await house.sweep()
    assert (await house.connection(made.id)).customer_id == connection.customer_id


async def test_a_login_under_a_new_id_replaces_the_connection_that_is_gone(house: House) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    was = house.fleet.world.find(connection.makini_key)
    assert was is not None
    house.fleet.world.remove(was)
    successor = house.fleet.world.create(
        name=was.name, email=was.email, provider=was.provider.slug, pending=True
    )
    _, path = await link_for(house, connection)
    assert (await through(house, path, successor.key)).status_code == 200
    old = await house.connection(connection.id)
    assert old.setup == "disconnected"
    assert old.replaced_by is not None
    assert (await house.connection(old.replaced_by)).makini_key == successor.key
    assert [incident.status for incident in await house.incidents()] == ["resolved"]


async def test_two_who_log_in_at_once_leave_one_pair_that_works(house: House) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    places = [
        await log_in(house, await authorize_link(house, path), connection.makini_key)
        for _ in range(2)
    ]
    answers = await asyncio.gather(*(house.http.get(place, timeout=30) for place in places))
    assert sorted(answer.status_code for answer in answers) == [200, 400]
    bearer = {"Authorization": f"Bearer {await token_of(house, connection)}"}
    status = await house.makini.get("/api/integrations/current", headers=bearer)
    assert status.status_code == 200


@pytest.mark.parametrize(
    ("fault", "kind"), [("token", "500"), ("token", "html"), ("status", "500"), ("status", "401")]
)
async def test_makini_stumbling_is_502_and_the_link_still_works(
    house: House, fault: str, kind: str
) -> None:
    [connection, *_] = await house.connections()
    await house.lose_login(connection)
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    await house.control("settings", **{fault: kind})
    answer = await house.http.get(location, timeout=30)
    assert answer.status_code == 502
    assert path in answer.text
    await house.control("settings", **{fault: ""})
    assert (await through(house, path, connection.makini_key)).status_code == 200


async def test_a_code_that_makini_refuses_is_502(house: House) -> None:
    [connection, *_] = await house.connections()
    link, _ = await link_for(house, connection)
    state = make_state(await load_signer(house.store), link.id, now=utcnow())
    answer = await house.http.get("/oauth/callback", params={"code": "guess", "state": state})
    assert answer.status_code == 502
    assert "guess" not in answer.text


async def test_a_callback_of_a_connection_that_was_deleted_is_refused(house: House) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    gone = house.fleet.world.find(connection.makini_key)
    assert gone is not None
    house.fleet.world.remove(gone)
    assert (await house.http.get(location)).status_code == 502


async def test_a_callback_of_a_connection_that_operators_ended_is_not_exchanged(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    await disconnect(house.rt, connection.makini_key, confirm=connection.makini_key, by="Petra")
    answer = await house.http.get(location)
    assert answer.status_code == 400
    assert "was ended" in answer.text
    assert await house.rows(Credential, Credential.connection_id == connection.id) == []
    assert (await house.connection(connection.id)).setup == "disconnected"


async def test_no_code_token_or_state_is_written_down(
    house: House, open_house: Callable[..., Awaitable[House]], caplog: pytest.LogCaptureFixture
) -> None:
    [connection, *_] = await house.connections()
    _, path = await link_for(house, connection)
    location = await log_in(house, await authorize_link(house, path), connection.makini_key)
    query = parse_qs(urlsplit(location).query)
    await house.http.get(location)
    secrets = [query["code"][0], query["state"][0], await token_of(house, connection)]
    kept = [
        *(str(row.model_dump()) for row in await house.rows(ConnectAttempt)),
        *(str(row.model_dump()) for row in await house.rows(Audit)),
        *(str(row.model_dump()) for row in await house.rows(Credential)),
        *(str(row.model_dump()) for row in await house.rows(ConnectLink)),
        *(record.getMessage() for record in caplog.records if record.name.startswith("linek")),
    ]
    for secret in secrets:
        assert all(secret not in text for text in kept)


@given(st.text(max_size=300))
def test_any_text_is_answered_as_a_token_and_as_a_state(text: str) -> None:
    signer = Signer(b"k" * 32)
    assert read_link(signer, text) is None
    assert read_state(signer, text) is None
