"""Who logs in to another one of two systems of one product reads which one it was."""

import html

import pytest
from sqlmodel import col

from linekeeper.store.tables import Audit, Connection, ConnectLink
from tests.receiver.test_connect import link_for, through, token_of
from tests.reconnect.conftest import House, house, open_house

__all__ = ["house", "open_house"]  # fixtures


async def test_the_page_names_both_by_what_tells_them_apart(house: House) -> None:
    for place in ("North", "South"):
        name = f"Bolt · UpKeep · {place}"
        house.fleet.world.create(name=name, email="it@bolt.example", provider="upkeep")
    await house.sweep()
    both = await house.rows(Connection, col(Connection.name).startswith("Bolt"))
    north, south = sorted(both, key=lambda each: each.name)
    await house.lose_login(north)
    _, path = await link_for(house, north, system="UpKeep")
    shown = html.unescape((await through(house, path, south.makini_key)).text)
    came, asked = "UpKeep (Bolt · UpKeep · South)", "UpKeep (Bolt · UpKeep · North)"
    assert f"You logged in to {came}, but {asked} is the one that was asked for" in shown
    said = [str(row.detail) for row in await house.rows(Audit)]
    assert any(f"it was another system, {came}" in text for text in said)


@pytest.mark.parametrize("is_swept", [True, False], ids=["a sweep saw that list", "none did"])
async def test_it_takes_no_others_place_because_makinis_list_lacks_that_one(
    house: House, is_swept: bool
) -> None:
    """Universe 60078: the list was empty, and the login at one ended the other, which lives."""
    world = house.fleet.world
    for _ in range(2):
        world.create(name="Bolt · UpKeep", email="it@bolt.example", provider="upkeep")
    await house.sweep()
    asked, other = await house.rows(Connection, col(Connection.name) == "Bolt · UpKeep")
    await house.lose_login(asked)
    _, path = await link_for(house, asked)
    for each in (asked, other):
        world.connections[each.makini_key].hidden = True
    if is_swept:
        await house.sweep()
    assert (await through(house, path, other.makini_key)).status_code == 409
    for each in (asked, other):
        found = await house.connection(each.id)
        assert (found.setup, found.replaced_by) == ("live", None)
    assert [link.used_at for link in await house.rows(ConnectLink)] == [None]


async def test_what_a_sweep_took_in_when_the_list_lost_the_one_asked_for_takes_its_place(
    house: House,
) -> None:
    world = house.fleet.world
    first = world.create(name="Bolt · UpKeep", email="it@bolt.example", provider="upkeep")
    await house.sweep()
    [asked] = await house.rows(Connection, col(Connection.name) == "Bolt · UpKeep")
    await house.lose_login(asked)
    _, path = await link_for(house, asked)
    second = world.create(name="Bolt · UpKeep", email="it@bolt.example", provider="upkeep")
    world.connections[first.key].hidden = True
    await house.sweep()
    assert (await through(house, path, second.key)).status_code == 200
    assert (await house.connection(asked.id)).replaced_by is not None


@pytest.mark.parametrize("asked_name", ["Bolt · Fiix", "Other · Fiix"], ids=["theirs", "another's"])
async def test_a_login_under_a_new_id_takes_the_place_of_the_one_it_is_of_whatever_was_asked_for(
    house: House, asked_name: str
) -> None:
    """Universe 13791: its pair was thrown away, and who had logged in was mailed again."""
    world = house.fleet.world
    was = world.create(name="Bolt · UpKeep", email="it@bolt.example", provider="upkeep")
    world.create(name=asked_name, email="it@bolt.example", provider="fiix")
    await house.sweep()
    [lost] = await house.rows(Connection, col(Connection.name) == "Bolt · UpKeep")
    [asked] = await house.rows(Connection, col(Connection.name) == asked_name)
    await house.lose_login(lost)
    await house.lose_login(asked)
    _, path = await link_for(house, asked)
    world.remove(was)
    new = world.create(name=was.name, email=was.email, provider="upkeep", pending=True)
    assert (await through(house, path, new.key)).status_code == 409
    old = await house.connection(lost.id)
    assert old.setup == "disconnected"
    assert old.replaced_by is not None
    heir = await house.connection(old.replaced_by)
    assert (heir.makini_key, heir.health, heir.customer_id) == (new.key, "healthy", old.customer_id)
    bearer = {"Authorization": f"Bearer {await token_of(house, heir)}"}
    status = await house.makini.get("/api/integrations/current", headers=bearer)
    assert status.json()["data"]["sync_status"] == "done"
    stays = await house.connection(asked.id)
    assert (stays.setup, stays.health) == ("live", "reauthorization_required")
    assert [link.used_at for link in await house.rows(ConnectLink)] == [None]
