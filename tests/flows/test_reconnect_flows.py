"""connect, disconnect, acknowledge, customer-update, and the watch over reconnects,
run as Prefect runs them. What suspends needs a worker: tests/e2e/test_reconnect.py."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.flow_engine import run_flow
from prefect.states import Cancelled, Crashed, Suspended
from sqlalchemy import select, update
from sqlmodel import col

import sandbox
from flows.acknowledge import acknowledge
from flows.connect import connect
from flows.credits import credits
from flows.customer_update import customer_update
from flows.disconnect import disconnect
from flows.health_sweep import health_sweep
from flows.reconnect import reconnect
from linekeeper.clock import utcnow
from linekeeper.customer_page.links import give_link
from linekeeper.health.evidence import Observation as Observed
from linekeeper.health.evidence import Outcome
from linekeeper.health.service import observe
from linekeeper.incidents.conclude import conclude
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.reconcile.run import reconcile
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.tables import (
    Audit,
    Connection,
    ConnectLink,
    Contact,
    Credential,
    Customer,
    CustomerLink,
    EndedRun,
    Incident,
    Outbox,
    Reconnect,
)
from linekeeper.tokens.stored import destroy_tokens
from tasks.reconnect import verify
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.health.test_sweep import sweep

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    on_both,
]


@flow(name="stand-in")
def stand_in() -> None:
    """A run that is there to be looked at."""


@pytest.fixture
async def fleet(running: Running, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[sandbox.Served]:
    """A sandbox's Makini with four connections, adopted and well."""
    box = sandbox.Settings(port=0, connections=4, records_per_connection=10)
    async with sandbox.serving(box) as served:
        for name, value in {
            "MAKINI_API_URL": served.url,
            "MAKINI_LINK_URL": served.url,
            "MAKINI_CLIENT_ID": box.client_id,
            "MAKINI_CLIENT_SECRET": box.client_secret,
            "MAKINI_MODE": "manage",
            "MAKINI_PER_MINUTE": "0",
            "PROBE_MINUTES": "0",
        }.items():
            monkeypatch.setenv(f"LINEKEEPER_{name}", value)
        yield served


async def rows(store: Store, table: Any, *where: Any) -> list[Any]:
    async with store.read() as session:
        return list(await session.scalars(select(table).where(*where)))


async def swept(server: PrefectServer) -> State[Any]:
    with on(server):
        state: State[Any] = await health_sweep(return_state=True)
    return state


async def adopted() -> None:
    """The fleet as a sweep leaves it, for what a test only needs: no graph, no pages."""
    async with Runtime.open() as rt:
        await sweep(rt)


def ended(state: State[Any]) -> tuple[str, str]:
    return state.name or "", state.message or ""


async def lost(store: Store, fleet: sandbox.Served) -> Connection:
    """A connection whose login is lost, and asked for."""
    await adopted()
    [connection, *_] = await rows(store, Connection)
    found = fleet.world.find(connection.makini_key)
    assert found is not None
    fleet.world.change_credentials(found)
    await adopted()
    async with Runtime.open() as rt:
        await advance_due_cases(rt)
    return cast("Connection", connection)


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
        for wrong in ({}, {"connection": "nobody"}, {"customer": "x", "system": "y", "app": "z"}):
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
        assert state.message == f"{name}: opened never, answered never"
        run = await running.last()
        assert run.name == f"customer-update · {name}: opened never, answered never"
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


@pytest.mark.parametrize("what", ["cancelled", "crashed", "deleted", "waiting"])
async def test_a_run_that_is_gone_while_waiting_is_started_anew_by_the_next_sweep(
    running: Running,
    store: Store,
    clean_prefect: PrefectServer,
    fleet: sandbox.Served,
    what: str,
) -> None:
    await lost(store, fleet)
    run = await running.client.create_flow_run(stand_in, state=Suspended(timeout_seconds=900))
    async with store.write() as session:
        [case] = await session.scalars(select(Reconnect))
        case.run_id = str(run.id)
    match what:
        case "cancelled":
            await running.client.set_flow_run_state(run.id, Cancelled(), force=True)
        case "crashed":
            await running.client.set_flow_run_state(run.id, Crashed(), force=True)
        case "deleted":
            await running.client.delete_flow_run(UUID(str(run.id)))
    for _ in range(2):
        await swept(clean_prefect)
    keys = [row.payload["idempotency_key"] for row in await started(store)]
    assert len(keys) == (1 if what == "waiting" else 2)
    assert len(set(keys)) == len(keys)
    if what == "waiting":  # it is named, tagged and shown after its incident, which may have grown
        [incident] = await rows(store, Incident)
        kept = await running.client.read_flow_run(run.id)
        assert kept.name == incident.title
        assert "waiting:customer" in kept.tags
        assert "waits for its customer" in await running.artifact(f"reconnect-{incident.id}")


async def started(store: Store) -> list[Outbox]:
    found = await rows(store, Outbox, Outbox.channel == "run")
    return [row for row in found if row.payload.get("deployment") == "reconnect"]


async def test_a_login_mended_elsewhere_ends_the_run_reconnected_with_its_numbers(
    running: Running, store: Store, clean_prefect: PrefectServer, fleet: sandbox.Served
) -> None:
    connection = await lost(store, fleet)
    found = fleet.world.find(connection.makini_key)
    assert found is not None
    fleet.world.change_records(found, next(iter(fleet.world.records.of(found))), make=7)
    fleet.world.restore_credentials(found)
    await swept(clean_prefect)
    [incident] = await rows(store, Incident)
    with on(clean_prefect):
        state = await reconnect(incident.id, return_state=True)
        again = await reconnect(incident.id, return_state=True)
    assert state.name == "Reconnected", state.message
    assert "7 records backfilled" in str(state.message)
    assert again.name == "Skipped"
    [case] = await rows(store, Reconnect)
    assert case.outcome == "reconnected"


async def test_a_system_that_goes_away_while_its_login_is_verified_is_no_broken_run(
    running: Running,
    store: Store,
    clean_prefect: PrefectServer,
    fleet: sandbox.Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is red by what it found, and another run goes on with the case."""
    monkeypatch.setattr("flows.reconnect.verify", verify.with_options(retries=0))
    connection = await lost(store, fleet)
    found = fleet.world.find(connection.makini_key)
    assert found is not None
    fleet.world.restore_credentials(found)
    await swept(clean_prefect)
    [incident] = await rows(store, Incident)
    fleet.world.go_offline(found)
    with on(clean_prefect):
        state = await reconnect(incident.id, return_state=True)
    assert state.is_failed()
    assert "does not answer" in str(state.message)
    assert "Another run goes on" in str(state.message)
    assert str(state.state_details.flow_run_id) in {
        row.run_id for row in await rows(store, EndedRun)
    }
    fleet.world.come_online(found)
    with on(clean_prefect):
        again = await reconnect(incident.id, return_state=True)
    assert again.name == "Reconnected", again.message


async def test_a_run_whose_case_another_one_took_ends_replaced_and_names_it(
    running: Running, store: Store, clean_prefect: PrefectServer, fleet: sandbox.Served
) -> None:
    await lost(store, fleet)
    [incident] = await rows(store, Incident)
    run = await running.client.create_flow_run(stand_in, state=Suspended(timeout_seconds=900))
    older = await running.client.create_flow_run(reconnect, parameters={"incident": incident.id})
    async with store.write() as session:
        [case] = await session.scalars(select(Reconnect))
        case.run_id, case.replaced_runs = str(run.id), [str(older.id)]
    with on(clean_prefect):
        state = await run_flow(
            reconnect, flow_run=older, parameters=older.parameters, return_type="state"
        )
    assert state.name == "Replaced", state.message
    assert state.is_completed()
    assert f"run {run.id}" in str(state.message)
    assert (await running.client.read_flow_run(older.id)).name.endswith("continued by another run")
    [case] = await rows(store, Reconnect)
    assert (case.run_id, case.closed_at) == (str(run.id), None)


async def test_in_observe_without_a_token_it_ends_reconnected_too_and_asked_nobody(
    store: Store,
    clean_prefect: PrefectServer,
    fleet: sandbox.Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = await lost(store, fleet)
    monkeypatch.setenv("LINEKEEPER_MAKINI_MODE", "observe")
    async with store.write() as session:
        await destroy_tokens(session, connection.id)
    found = fleet.world.find(connection.makini_key)
    assert found is not None
    fleet.world.restore_credentials(found)
    found.connected_at = utcnow()  # by somebody at Makini
    await adopted()
    [incident] = await rows(store, Incident)
    with on(clean_prefect):
        state = await reconnect(incident.id, return_state=True)
    assert state.name == "Reconnected", state.message
    assert "not backfilled, for there is no token to read with: " in str(state.message)


@pytest.mark.parametrize("read_before", [True, False])
async def test_that_there_was_nothing_to_backfill_is_said_only_after_a_comparison(
    store: Store, clean_prefect: PrefectServer, fleet: sandbox.Served, read_before: bool
) -> None:
    await adopted()
    if read_before:
        async with Runtime.open() as rt:
            await reconcile(rt)
    connection = await lost(store, fleet)
    found = fleet.world.find(connection.makini_key)
    assert found is not None
    fleet.world.restore_credentials(found)
    await adopted()
    [incident] = await rows(store, Incident)
    with on(clean_prefect):
        state = await reconnect(incident.id, return_state=True)
    assert state.name == "Reconnected", state.message
    said = str(state.message)
    assert ("nothing to backfill" in said) == read_before
    assert ("nothing could be compared (" in said) != read_before
    assert ("read for the first time" in said) != read_before, "the reason is said"


async def test_a_run_that_fails_again_and_again_is_started_ever_less_often(
    running: Running, store: Store, clean_prefect: PrefectServer, fleet: sandbox.Served
) -> None:
    await lost(store, fleet)
    for _ in range(4):
        run = await running.client.create_flow_run(stand_in, state=Crashed())
        async with store.write() as session:
            [case] = await session.scalars(select(Reconnect))
            case.run_id = str(run.id)
        await swept(clean_prefect)
    assert len(await started(store)) == 2
    async with store.write() as session:
        await session.execute(update(Outbox).values(created_at=utcnow() - timedelta(minutes=11)))
    await swept(clean_prefect)
    assert len(await started(store)) == 3


async def test_a_connection_that_has_its_login_has_no_run_and_is_told_what_to_do(
    store: Store, clean_prefect: PrefectServer, fleet: sandbox.Served
) -> None:
    await adopted()
    [connection, *_] = await rows(store, Connection)
    with on(clean_prefect):
        for given, said in (
            ({"connection": connection.makini_key}, "has not lost its login"),
            ({"connection": "nobody"}, "nearest"),
            ({"incident": "nothing"}, "no incident"),
            ({}, "Give an incident or a connection"),
        ):
            state = await reconnect(**given, return_state=True)
            assert state.name == "Refused"
            assert said in str(state.message)


@pytest.mark.parametrize("why", ["given back", "mint refused"])
async def test_b2_without_token_and_without_mint_a_case_waits_for_its_customer(
    running: Running,
    store: Store,
    clean_prefect: PrefectServer,
    fleet: sandbox.Served,
    why: str,
) -> None:
    await adopted()
    [one, *_] = await rows(store, Connection)
    async with store.write() as session:
        await destroy_tokens(session, one.id)
        if why == "given back":
            await session.execute(
                update(Connection).where(col(Connection.id) == one.id).values(custody="exported")
            )
    if why == "mint refused":
        fleet.world.settings.mint_shape = "refused"
    async with Runtime.open() as rt:
        policy = (await rt.configuration()).policy
        said = Observed(
            at=utcnow(), source="webhook", outcome=Outcome.login_lost, message="must log in again"
        )
        async with store.write() as session:
            await observe(store, session, [(one.id, said)], policy=policy, now=utcnow())
            await conclude(store, session, policy=policy, now=utcnow())
        await advance_due_cases(rt)
    await swept(clean_prefect)
    [incident] = await rows(store, Incident)
    assert (incident.kind, incident.status) == ("reauthorization_required", "open")
    # Here no worker runs it, so it can't suspend: it would wait.
    with on(clean_prefect), pytest.raises(RuntimeError, match="suspend"):
        await reconnect(incident.id)
    async with store.write() as session:
        [case] = await session.scalars(select(Reconnect))
        case.run_id = case.woken_at = None
    await swept(clean_prefect)
    [case] = await rows(store, Reconnect)
    assert (case.outcome, case.closed_at) == (None, None)


async def test_b2_a_login_back_by_makinis_event_alone_ends_the_case_and_says_what_was_not_read(
    store: Store, clean_prefect: PrefectServer, fleet: sandbox.Served
) -> None:
    connection = await lost(store, fleet)
    fleet.world.settings.mint_shape = "refused"
    async with store.write() as session:
        await destroy_tokens(session, connection.id)
    found = fleet.world.find(connection.makini_key)
    assert found is not None
    await adopted()
    [incident] = await rows(store, Incident)
    assert incident.status == "open", "the list says active of a lost login too"
    fleet.world.restore_credentials(found)
    async with Runtime.open() as rt:
        policy = (await rt.configuration()).policy
        back = Observed(at=utcnow(), source="webhook", outcome=Outcome.login_restored)
        async with store.write() as session:
            await observe(store, session, [(connection.id, back)], policy=policy, now=utcnow())
            await conclude(store, session, policy=policy, now=utcnow())
    await adopted()
    [incident] = await rows(store, Incident)
    assert incident.status == "resolved"
    with on(clean_prefect):
        state = await reconnect(incident.id, return_state=True)
    assert state.name == "Reconnected", state.message
    assert "not backfilled, for there is no token to read with: " in str(state.message)
