"""Who logs in to another one of two systems of one product reads which one it was."""

import html

from sqlmodel import col

from linekeeper.store.tables import Audit, Connection
from tests.receiver.test_connect import link_for, through
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
