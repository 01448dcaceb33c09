"""A first login at a system that people call otherwise than Makini calls its provider."""

from collections.abc import Awaitable, Callable

import pytest
from sqlmodel import col

from linekeeper.access.invite import invite_new
from linekeeper.clock import utcnow
from linekeeper.implementation.advance import advance
from linekeeper.implementation.order import Form
from linekeeper.implementation.start import start
from linekeeper.store.tables import ConnectLink, ImplementationSystem
from tests.receiver.test_connect import House, house, open_house, through

__all__ = ["house", "open_house"]  # fixtures


async def link_to(here: House, customer: str, system: str) -> str:
    made = await invite_new(here.rt, customer, system, app="default", by="tests", now=utcnow())
    return made.url


async def test_two_systems_of_one_provider_are_each_connected_by_their_own_link(
    house: House,
) -> None:
    names = ["UpKeep North", "UpKeep South"]
    started = await start(
        house.store,
        Form("Zeta Steel", names, "custom", utcnow().date(), by="Olaf"),
        now=utcnow(),
    )
    implementation = started.progress.standing.implementation.id
    for system in reversed(names):
        path = await link_to(house, "Zeta Steel", system)
        answer = await through(house, path, "new:upkeep", username="it@zeta.example")
        assert answer.status_code == 200, answer.text
        await advance(house.store, implementation, now=utcnow())
        links = await house.rows(ConnectLink, col(ConnectLink.system) == system)
        bound = await house.rows(ImplementationSystem, col(ImplementationSystem.name) == system)
        assert [row.connection_id for row in bound] == [link.used_for for link in links]


@pytest.mark.parametrize(
    ("system", "choice", "status"),
    [
        ("Maintenance Hamburg", "new:upkeep", 200),  # no system is called so: nothing contradicts
        ("upkeep (Hamburg)", "new:upkeep", 200),
        ("UpKeep", "new:fiix", 409),
        ("UpKeep Hamburg", "new:fiix", 409),
    ],
)
async def test_a_login_is_refused_where_the_name_says_another_provider(
    house: House, system: str, choice: str, status: int
) -> None:
    path = await link_to(house, "Zeta Steel", system)
    answer = await through(house, path, choice, username="it@zeta.example")
    assert answer.status_code == status, answer.text


async def test_makini_says_which_systems_there_are_where_no_connection_does(
    open_house: Callable[..., Awaitable[House]],
) -> None:
    here = await open_house(connections=1)
    [only] = await here.connections()
    missing = next(name for name in ("UpKeep", "Fiix") if name != only.provider)
    other = only.provider.lower().replace(" ", "-")
    path = await link_to(here, "Zeta Steel", f"{missing} North")
    answer = await through(here, path, f"new:{other}", username="it@zeta.example")
    assert answer.status_code == 409, answer.text


@pytest.mark.parametrize("second", ["UpKeep South", "Maintenance South"])
async def test_a_login_that_is_one_system_is_not_taken_for_a_second_one(
    house: House, second: str
) -> None:
    form = Form("Zeta Steel", ["UpKeep North", second], "custom", utcnow().date(), by="Olaf")
    started = await start(house.store, form, now=utcnow())
    path = await link_to(house, "Zeta Steel", "UpKeep North")
    assert (await through(house, path, "new:upkeep", username="it@zeta.example")).is_success
    await advance(house.store, started.progress.standing.implementation.id, now=utcnow())
    [link] = await house.rows(ConnectLink)
    key = (await house.connection(link.used_for)).makini_key
    path = await link_to(house, "Zeta Steel", second)
    assert (await through(house, path, key, username="it@zeta.example")).status_code == 409
    path = await link_to(house, "Zeta Steel", "UpKeep North")
    assert (await through(house, path, key, username="it@zeta.example")).status_code == 200


async def test_a_login_that_was_refused_is_not_the_system_all_the_same(house: House) -> None:
    """The next sweep takes the connection that the login made into the books."""
    customer = "New customer"  # as the sandbox calls it
    form = Form(customer, ["UpKeep"], "standard", utcnow().date(), by="Olaf")
    implementation = (await start(house.store, form, now=utcnow())).progress.standing.implementation
    path = await link_to(house, customer, "UpKeep")
    assert (await through(house, path, "new:fiix", username="it@x.example")).status_code == 409
    await house.sweep()
    made = (await house.connections())[-1]
    assert (made.provider, made.customer_id) == ("Fiix", implementation.customer_id)
    await advance(house.store, implementation.id, now=utcnow())
    [system] = await house.rows(ImplementationSystem)
    assert system.connection_id is None
