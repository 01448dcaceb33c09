"""Forms around logins that somebody fills in: links, contacts, acknowledging, disconnecting."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import text

import sandbox
from flows.acknowledge import acknowledge
from flows.connect import connect
from flows.credits import credits
from flows.customer_update import customer_update
from flows.disconnect import disconnect
from linekeeper.clock import utcnow
from linekeeper.customer_page.links import give_link
from linekeeper.store import Store
from linekeeper.store.tables import (
    Audit,
    Connection,
    ConnectLink,
    Contact,
    Credential,
    Customer,
    CustomerLink,
    Incident,
    Reconnect,
)
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.test_reconnect_flows import adopted, ended, fleet, lost, rows

__all__ = ["fleet"]  # fixtures
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    on_both,
]


async def test_a_link_is_made_without_an_incident_and_nonsense_is_refused(
    running: Running, store: Store, clean_prefect: PrefectServer, fleet: sandbox.Served
) -> None:
    await adopted()
    [one, *_] = await rows(store, Connection)
    with on(clean_prefect):
        assert ended(await connect(connection=one.name, by="Petra", return_state=True))[0] == (
            "Completed"
        )
        [url] = re.findall(r"/connect/[\w-]{20,}(?=\))", await running.artifact("connect-link"))
        again = await connect(connection=one.name, by="Anna", return_state=True)
        assert "It is the one that Petra had made on" in (again.message or "")
        assert url in await running.artifact("connect-link")
        new = await connect(customer="Zeta Steel", system="UpKeep", return_state=True)
        assert new.name == "Completed"
        for wrong in (
            {},
            {"connection": "nobody"},
            {"customer": "x", "system": "y", "app": "z"},
            {"customer": "N" * 3_000, "system": "UpKeep"},
            {"customer": "Acme\x1b[2J", "system": "UpKeep"},
            {"customer": "Acme", "system": "S" * 3_000},
        ):
            assert (await connect(**wrong, return_state=True)).name == "Refused"
    assert len(await rows(store, ConnectLink)) == 2
    assert {row.by for row in await rows(store, Audit)} == {"Petra", "Anna", "connect form"}


async def test_disconnecting_is_a_preview_until_the_key_is_typed_by_somebody(
    running: Running, store: Store, clean_prefect: PrefectServer, fleet: sandbox.Served
) -> None:
    connection = await lost(store, fleet)
    with on(clean_prefect):
        seen = await disconnect(connection.makini_key, return_state=True)
        assert ended(seen) == ("Completed", "Only a preview; see the artifact disconnect")
        for confirm, by in ((connection.makini_key, ""), ("yes", "Petra")):
            refused = await disconnect(connection.makini_key, confirm, by, return_state=True)
            assert refused.name == "Refused"
        assert fleet.world.find(connection.makini_key) is not None
        done = await disconnect(
            connection.makini_key, connection.makini_key, "Petra", return_state=True
        )
        assert done.name == "Completed", done.message
        again = await disconnect(
            connection.makini_key, connection.makini_key, "Petra", return_state=True
        )
        assert again.name == "Completed", again.message
    assert fleet.world.find(connection.makini_key) is None
    [row] = await rows(store, Connection, Connection.id == connection.id)
    assert row.setup == "disconnected"
    assert await rows(store, Credential, Credential.connection_id == connection.id) == []
    assert [i.status for i in await rows(store, Incident)] == ["resolved"]
    assert all(link.expires_at <= utcnow() for link in await rows(store, ConnectLink))


async def test_an_incident_is_acknowledged_and_snoozed_by_somebody(
    store: Store, clean_prefect: PrefectServer, fleet: sandbox.Served
) -> None:
    await lost(store, fleet)
    [incident] = await rows(store, Incident)
    with on(clean_prefect):
        state = await acknowledge(incident.id, "Petra", "4 hours", return_state=True)
        assert state.name == "Completed", state.message
        assert (await acknowledge("nothing", "Petra", return_state=True)).name == "Refused"
    [incident] = await rows(store, Incident)
    assert (incident.status, incident.acknowledged_by) == ("acknowledged", "Petra")
    [case] = await rows(store, Reconnect)
    assert case.snoozed_until > utcnow() + timedelta(hours=3)
    assert {"incident.acknowledged", "incident.snoozed"} <= {
        row.action for row in await rows(store, Audit)
    }


async def test_one_that_is_resolved_before_it_is_snoozed_is_said_to_be_acknowledged(
    store: Store, clean_prefect: PrefectServer, fleet: sandbox.Served
) -> None:
    await lost(store, fleet)
    [incident] = await rows(store, Incident)
    resolves = (
        "CREATE TRIGGER resolves AFTER INSERT ON audit WHEN NEW.action = 'incident.acknowledged' "
        "BEGIN UPDATE incident SET status = 'resolved', resolved_at = opened_at; END"
    )
    async with store.write() as session:
        await session.execute(text(resolves))
    with on(clean_prefect):
        state = await acknowledge(incident.id, "Petra", "4 hours", return_state=True)
    assert state.name == "Completed", state.message
    assert "is acknowledged, and not snoozed: " in state.message
    assert state.message.endswith("is resolved already")


async def test_connections_that_the_ledger_did_not_know_are_counted_once_and_said_so(
    store: Store, clean_prefect: PrefectServer, fleet: sandbox.Served
) -> None:
    """Nothing disagrees any more when the run has made the ledger follow the list."""
    await adopted()
    with on(clean_prefect):
        _, first = ended(await credits(return_state=True))
        _, again = ended(await credits(return_state=True))
    assert "4 connections not in the ledger before, and counted from now on" in first
    assert again.endswith("bought not said (estimate)")


async def test_a_customer_gets_a_contact_by_the_form(
    store: Store, clean_prefect: PrefectServer, fleet: sandbox.Served
) -> None:
    await adopted()
    name = (await rows(store, Customer))[0].name
    with on(clean_prefect):
        state = await customer_update(name, "Petra", contacts="a@b.example", return_state=True)
        assert state.name == "Completed", state.message
        wrong = await customer_update(name, "Petra", time_zone="Mars", return_state=True)
        assert ended(wrong)[0] == "Refused"
    contacts = [row.email for row in await rows(store, Contact) if row.confirmed]
    assert contacts == ["a@b.example"]


async def test_a_customers_link_is_in_no_artifact_and_is_revoked_by_a_form(
    running: Running, store: Store, clean_prefect: PrefectServer, fleet: sandbox.Served
) -> None:
    await lost(store, fleet)
    name = (await rows(store, Customer))[0].name
    with on(clean_prefect):
        state = await customer_update(name, "Petra", page="show", return_state=True)
        assert state.message == f"{name}: no link works now"
        given = await give_link(store, "https://here.example", name, by="Petra", now=utcnow())
        state = await customer_update(name, "Petra", page="show", return_state=True)
        assert state.message == f"{name}: not opened yet, not answered yet"
        run = await running.last()
        assert run.name == f"customer-update · {name}: not opened yet, not answered yet"
        for artifact in await running.client.read_artifacts():
            assert given.url.rpartition("/")[2] not in str(artifact.data)
        state = await customer_update(name, "Petra", page="revoke", return_state=True)
        assert state.message == f"{name}: 1 link revoked"
        nobody = await customer_update("Nobody", "Petra", page="show", return_state=True)
        assert nobody.name == "Refused"
        unsent = await customer_update(name, "Petra", owner="Ann", page="mail", return_state=True)
        assert (unsent.name, "no mail account" in (unsent.message or "")) == ("Refused", True)
        assert "kept: owner: Ann." in (unsent.message or "")
    [link] = await rows(store, CustomerLink)
    assert link.revoked_at is not None
