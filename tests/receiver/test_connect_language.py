"""Whoever was mailed in German reads German on the pages that the link leads to."""

import html
import re

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.access.links import make_state
from linekeeper.access.signing import load_signer
from linekeeper.clock import utcnow
from linekeeper.store.tables import Connection, ConnectLink, Customer
from tests.receiver.test_connect import link_for, through
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures
GERMAN = {"locale": "de-AT", "time_zone": "Europe/Vienna"}
ENGLISH = re.compile(r"\b(the|your|you|is|link|login|nothing|UTC|CES?T)\b", re.IGNORECASE)


@pytest.fixture
async def connection(house: House) -> Connection:
    """One whose login is lost, and whose customer reads German."""
    [connection, *_] = await house.connections()
    async with house.store.write() as session:
        await session.execute(
            update(Customer).where(col(Customer.id) == connection.customer_id).values(**GERMAN)
        )
    await house.lose_login(connection)
    return connection


def said(page: str) -> str:
    """What a browser shows of it, after looking whether any English is left."""
    assert '<html lang="de">' in page
    text = html.unescape(re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))
    assert not ENGLISH.search(text), text
    return " ".join(text.split())


async def test_the_page_and_what_follows_the_login(house: House, connection: Connection) -> None:
    link, path = await link_for(house, connection)
    asked = said((await house.http.get(path)).text)
    assert f"melden Sie sich wieder bei {connection.provider} an" in asked
    assert re.search(r"seit \d\d\.\d\d\.\d{4}, \d\d:\d\d MES?Z", asked)

    denied = await through(house, path, connection.makini_key, answer="deny")
    assert denied.status_code == 400
    assert "nicht angemeldet" in said(denied.text)
    done = await through(house, path, connection.makini_key)
    assert done.status_code == 200
    assert "Vielen Dank" in said(done.text)
    assert "schon angemeldet" in said((await house.http.get(path)).text)

    state = make_state(await load_signer(house.store), link.id, now=utcnow())
    again = await house.http.get("/oauth/callback", params={"state": state, "code": "late"})
    assert "nichts mehr zu tun" in said(again.text)


async def nameless_link(house: House, connection: Connection) -> str:
    """The path of a link to a system that neither Makini nor an operator gave a name."""
    async with house.store.write() as session:
        await session.execute(update(Connection).values(name="", provider=""))
    connection.provider = ""
    _, path = await link_for(house, connection)
    return path


async def test_a_system_that_nobody_named_is_spoken_of_in_good_german(
    house: House, connection: Connection
) -> None:
    """The stand-in for its name is bent as the sentence asks."""
    path = await nameless_link(house, connection)
    asked = said((await house.http.get(path)).text)
    assert "melden Sie sich wieder bei Ihrem System an" in asked
    assert " Ihr System von " in f" {asked}"
    assert "Sie wählen Ihr System" in asked
    async with house.store.write() as session:
        await session.execute(update(Connection).values(health="healthy"))
    assert "Ihr System ist verbunden" in said((await house.http.get(path)).text)


async def test_a_sentence_begins_with_a_capital_where_nobody_named_the_system(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    path = await nameless_link(house, connection)
    assert "Your system is connected" in (await house.http.get(path)).text


async def test_a_link_that_ended(house: House, connection: Connection) -> None:
    _, path = await link_for(house, connection)
    async with house.store.write() as session:
        await session.execute(update(ConnectLink).values(expires_at=utcnow()))
    assert "gilt nicht mehr" in said((await house.http.get(path)).text)


async def test_where_nobody_knows_whose_it_is_the_browser_says_the_language(house: House) -> None:
    german = {"Accept-Language": "de-DE,de;q=0.9,en;q=0.8"}
    for path in ("/connect/nonsense", "/oauth/callback?state=x&code=y", "/oauth/callback?code=y"):
        said((await house.http.get(path, headers=german)).text)
        assert '<html lang="en">' in (await house.http.get(path)).text
        odd = await house.http.get(path, headers={"Accept-Language": "-" * 4_000})
        assert '<html lang="en">' in odd.text
