"""A link asked for twice is one link: two operators, a request that came twice."""

import asyncio
from datetime import timedelta

import pytest
from sqlmodel import col

from linekeeper.access.invite import Invitation, invite_again, invite_new
from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Audit, ConnectLink, Customer
from tests.receiver.test_connect import through
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures


async def new_system(rt: Runtime, by: str, system: str = "UpKeep") -> Invitation:
    return await invite_new(rt, "Zeta Steel", system, app="default", by=by, now=utcnow())


@pytest.mark.parametrize("is_known", [True, False])
async def test_two_who_ask_for_a_link_at_once_are_given_the_same(
    house: House, is_known: bool
) -> None:
    [connection, *_] = await house.connections()

    async def asked(by: str) -> Invitation:
        async with Runtime.open(house.rt.settings) as rt:
            if is_known:
                return await invite_again(rt, connection.makini_key, by=by, now=utcnow())
            return await new_system(rt, by)

    made = await asyncio.gather(*(asked(by) for by in ("Anna", "Petra", "Olga", "Ines")))
    assert len({each.url for each in made}) == 1
    assert [each.is_new for each in made].count(True) == 1
    [link] = await house.rows(ConnectLink)
    assert {each.made_by for each in made} == {link.created_by}
    actions = [row.action for row in await house.rows(Audit, col(Audit.action).like("connect.%"))]
    assert sorted(actions) == ["connect.link_given_again"] * 3 + ["connect.link_made"]
    assert len(await house.rows(Customer, col(Customer.name) == "Zeta Steel")) == (not is_known)


async def test_a_link_given_again_is_good_for_a_week_and_one_that_was_used_is_another(
    house: House,
) -> None:
    [connection, *_] = await house.connections()
    key = connection.makini_key
    before = utcnow() - timedelta(days=6)
    first = await invite_again(house.rt, key, by="Anna", now=before)
    again = await invite_again(house.rt, key, by="Petra", now=utcnow())
    assert (again.url, again.made_by, again.made_at) == (first.url, "Anna", before)
    assert again.expires_at > utcnow() + timedelta(days=6)
    path = again.url.removeprefix(house.rt.settings.resolved_public_url)
    assert (await through(house, path, key)).status_code == 200
    third = await invite_again(house.rt, key, by="Petra", now=utcnow())
    assert third.is_new
    assert third.url != first.url


async def test_another_system_of_the_same_customer_has_a_link_of_its_own(house: House) -> None:
    first = await new_system(house.rt, "Anna")
    other = await new_system(house.rt, "Anna", "SAP ECC")
    same = await new_system(house.rt, "Petra", "upkeep")
    assert first.url == same.url != other.url


@pytest.mark.parametrize("spelled", ["ÖBB Infrastruktur", "öbb infrastruktur", "ÖBB-Infrastruktur"])
async def test_a_customer_is_the_same_however_its_name_is_spelled(
    house: House, spelled: str
) -> None:
    """`invite` compared names by the database's idea of lower case: SQLite's ends with `z`."""
    for name in ("ÖBB Infrastruktur", spelled):
        await invite_new(house.rt, name, "UpKeep", app="default", by="Anna", now=utcnow())
    assert len(await house.rows(Customer, col(Customer.name).contains("nfrastruktur"))) == 1
