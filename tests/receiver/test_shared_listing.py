"""Logins share one listing of Makini's connections, also across receivers (docs/reconnect.md)."""

import asyncio
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.access.listing import ConnectionListing, listed_for
from linekeeper.makini import ListedConnection
from linekeeper.receiver import serve
from linekeeper.runtime import Runtime
from linekeeper.store.tables import AppSetting, Connection, Lease
from tests.receiver.test_connect import authorize_link, link_for, listings, log_in
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures


async def authorizing(house: House) -> list[Connection]:
    """The connections, whose customers are all about to log in."""
    async with house.store.write() as session:
        await session.execute(update(Connection).values(setup="authorizing"))
    return await house.connections()


async def test_b2_logins_within_half_a_minute_share_one_listing_whichever_receiver_takes_them(
    house: House,
) -> None:
    connections = await authorizing(house)
    before = await listings(house)
    settings = house.rt.settings
    with serve.listening(settings.model_copy(update={"receiver_port": 0})) as listener:
        async with (
            Runtime.open(settings) as other,
            serve.serving(other, listener),
            httpx.AsyncClient(base_url=serve.address(listener), verify=False) as second,
        ):
            for number, connection in enumerate(connections):
                _, path = await link_for(house, connection)
                href = await authorize_link(house, path)
                location = urlsplit(await log_in(house, href, connection.makini_key))
                receiver = (house.http, second)[number % 2]
                answer = await receiver.get(f"{location.path}?{location.query}")
                assert answer.status_code == 200, answer.text
    assert await listings(house) == before + 1
    assert {one.setup for one in await house.connections()} <= {"syncing", "live"}
    [kept] = await house.rows(AppSetting, col(AppSetting.name).startswith("listing:"))
    assert connections[0].name not in kept.value


async def test_b2_logins_at_once_wait_for_one_listing_and_not_for_each_other(
    house: House,
) -> None:
    connections = await authorizing(house)
    locations = []
    for connection in connections:
        _, path = await link_for(house, connection)
        href = await authorize_link(house, path)
        locations.append(urlsplit(await log_in(house, href, connection.makini_key)))
    before = await listings(house)
    answers = await asyncio.gather(
        *(house.http.get(f"{location.path}?{location.query}") for location in locations)
    )
    assert {answer.status_code for answer in answers} == {200}, [each.text for each in answers]
    assert await listings(house) == before + 1
    [lease] = await house.rows(Lease, col(Lease.kind) == "listing")
    assert lease.fence <= 2 < len(connections)  # each of them held it, one a second


async def test_b2_an_older_listing_that_does_not_name_the_login_is_not_believed(
    house: House,
) -> None:
    app = await house.rt.app("default")
    makini = house.rt.makini(app, for_login=True)
    start = datetime(2000, 1, 1, tzinfo=UTC)
    await listed_for(house.rt, makini, "default", "", since=start)
    made = house.fleet.world.create(
        name="Acme - Fiix", email="it@acme.example", provider="fiix", pending=False
    )
    before = await listings(house)
    async with house.store.read() as session:
        since = await house.store.clock(session)
    listed = await listed_for(house.rt, makini, "default", made.key, since=since)
    assert await listings(house) == before + 1
    assert made.key in [entry.key for entry in listed]


AT = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("begun_after", "asked_after", "makini_id", "settles"),
    [
        (1, 2, "unknown", True),  # begun after the login: it holds whatever the login made
        (-10, 0, "k1", True),
        (-10, 0, "unknown", False),
        (-10, 0, "", False),
        (-31, 0, "k1", False),
    ],
)
def test_b2_what_a_listing_settles(
    begun_after: int, asked_after: int, makini_id: str, settles: bool
) -> None:
    listing = ConnectionListing(AT + timedelta(seconds=begun_after), [ListedConnection(key="k1")])
    now = AT + timedelta(seconds=asked_after)
    assert listing.settles(makini_id, since=AT, now=now) is settles
