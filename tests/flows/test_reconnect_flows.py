"""connect, disconnect, acknowledge, customer-update, and the watch over reconnects,
run as Prefect runs them. What suspends needs a worker: tests/e2e/test_reconnect.py."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.flow_engine import run_flow
from prefect.states import Suspended
from sqlalchemy import select, update
from sqlmodel import col

import sandbox
from flows.health_sweep import health_sweep
from flows.reconnect import reconnect
from linekeeper.clock import utcnow
from linekeeper.health.evidence import Observation as Observed
from linekeeper.health.evidence import Outcome
from linekeeper.health.service import observe
from linekeeper.incidents.conclude import conclude
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.reconcile.run import reconcile
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.tables import (
    Connection,
    EndedRun,
    Incident,
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


@pytest.mark.repeats(
    "flows/test_away.py::test_a_login_whose_system_is_away_is_waited_for_and_not_given_up"
)
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


AGAIN = pytest.mark.repeats(
    "flows/test_reconnect_flows.py"
    "::test_b2_without_token_and_without_mint_a_case_waits_for_its_customer"
)


@pytest.mark.parametrize("why", ["given back", pytest.param("mint refused", marks=AGAIN)])
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
