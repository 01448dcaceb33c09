"""A customer's systems of one product have a name each, wherever operators read or enter one."""

from typing import Any

import pytest
from prefect.client.schemas.objects import State
from sqlmodel import col

import sandbox
from flows.check_connection import check_connection
from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Incident, IncidentEntry
from linekeeper.views.glance import glance
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.test_reconnect_flows import adopted, fleet, rows, swept

__all__ = ["fleet"]
pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]
NORTH, SOUTH = "Bolt · UpKeep (North)", "Bolt · UpKeep (South)"


async def named(store: Store, name: str) -> Connection:
    connection: Connection
    [connection] = await rows(store, Connection, col(Connection.name) == name)
    return connection


@pytest.mark.repeats(
    "receiver/test_another_of_one_product.py::test_the_page_names_both_by_what_tells_them_apart",
    "flows/test_several_of_one_product.py::test_one_whose_name_says_no_more_is_told_apart_by_its_key_and_the_last_by_nothing",
)
async def test_each_is_called_by_a_name_of_its_own_and_one_that_fits_several_is_refused(
    running: Running, clean_prefect: PrefectServer, store: Store, fleet: sandbox.Served
) -> None:
    for name in ("Bolt · UpKeep · North", "Bolt · UpKeep · South"):
        fleet.world.create(name=name, email="it@bolt.example", provider="upkeep")
    await swept(clean_prefect)
    for name in ("Bolt · UpKeep · North", "Bolt · UpKeep · South"):
        found = fleet.world.find((await named(store, name)).makini_key)
        assert found is not None
        fleet.world.change_credentials(found)
    await swept(clean_prefect)

    titles = {incident.title for incident in await rows(store, Incident)}
    said = " ".join(titles) + " ".join(entry.text for entry in await rows(store, IncidentEntry))
    assert NORTH in said
    assert SOUTH in said
    page = await running.artifact("connections")
    assert "UpKeep (North)" in page
    assert "UpKeep (South)" in page
    async with Runtime.open() as rt:
        seen = await glance(rt.store, await rt.configuration(), now=utcnow())
        shown = {member for incident in seen.incidents for member in incident.connections}
    assert {NORTH, SOUTH} <= shown

    async def checked(name: str) -> tuple[str, str]:
        with on(clean_prefect):
            state: State[Any] = await check_connection(name, return_state=True)
        return state.name or "", state.message or ""

    refused, why = await checked("Bolt · UpKeep")
    assert refused == "Refused"
    assert f"enter one of {NORTH}; {SOUTH}" in why, why
    assert (await checked(NORTH))[0] != "Refused"


async def test_one_whose_name_says_no_more_is_told_apart_by_its_key_and_the_last_by_nothing(
    running: Running, store: Store, fleet: sandbox.Served
) -> None:
    made = [
        fleet.world.create(name=name, email="it@bolt.example", provider="upkeep")
        for name in ("Bolt · UpKeep", "Bolt · UpKeep · North")
    ]
    await adopted()
    silent = await named(store, "Bolt · UpKeep")
    assert silent.told_apart_by == silent.makini_key
    assert (await named(store, "Bolt · UpKeep · North")).told_apart_by == "North"
    for other in await rows(store, Connection):
        assert other.told_apart_by is None or other.provider == "UpKeep"

    fleet.world.remove(made[1])
    await adopted()
    await adopted()
    assert (await named(store, "Bolt · UpKeep")).told_apart_by is None
