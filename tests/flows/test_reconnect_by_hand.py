"""`reconnect`, started by hand for a connection: what it says, and what becomes of its case."""

import pytest
from prefect.states import Pending
from sqlalchemy import update
from sqlmodel import col

import sandbox
from flows.reconnect import reconnect
from linekeeper.clock import utcnow
from linekeeper.reconnect.disconnect import disconnect
from linekeeper.reconnect.remind import DEADLINE
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Customer, IncidentConnection, Reconnect
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import begin, work
from tests.flows.test_reconnect_flows import adopted, fleet, lost, rows

__all__ = ["fleet"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    on_both,
]


async def restored(store: Store, fleet: sandbox.Served, connection: Connection) -> None:
    """The system takes the login again, and a sweep has found so."""
    found = fleet.world.find(connection.makini_key)
    assert found is not None
    fleet.world.restore_credentials(found)
    await adopted()
    [case] = await rows(store, Reconnect)
    assert case.closed_at is None


@pytest.mark.repeats(
    "flows/test_reconnect_flows.py::test_a_login_mended_elsewhere_ends_the_run_reconnected_with_its_numbers"
)
async def test_its_case_is_closed_by_it_once_a_sweep_finds_the_connection_well(
    running: Running, clean_prefect: PrefectServer, store: Store, fleet: sandbox.Served
) -> None:
    """The incident is over by then, and the customer has another name: the run knows its case."""
    connection = await lost(store, fleet)
    with on(clean_prefect):
        run = await begin(running, reconnect, connection=connection.makini_key)
        assert run.state is not None
        assert run.state.is_paused()
        await restored(store, fleet, connection)
        await running.client.resume_flow_run(run.id, run_input={})
        run = await work(running, reconnect, run.id)
    assert run.state is not None
    assert run.state.name == "Reconnected", run.state.message
    [case] = await rows(store, Reconnect)
    assert (case.outcome, list(case.counts)) == ("reconnected", [connection.id])


@pytest.mark.repeats(
    "flows/test_workflow_configuration.py::test_it_goes_on_with_a_connection_that_is_called_something_else_by_now"
)
async def test_it_waits_on_while_its_customer_gets_another_name(
    running: Running, clean_prefect: PrefectServer, store: Store, fleet: sandbox.Served
) -> None:
    connection = await lost(store, fleet)
    async with store.write() as session:
        await session.execute(
            update(Connection).where(col(Connection.id) == connection.id).values(name="Before")
        )
    with on(clean_prefect):
        run = await begin(running, reconnect, connection="Before")
        async with store.write() as session:
            await session.execute(update(Connection).values(name="Behind"))
            await session.execute(
                update(Customer)
                .where(col(Customer.id) == connection.customer_id)
                .values(name="Another")
            )
        await running.client.resume_flow_run(run.id, run_input={"note": "they were bought"})
        run = await work(running, reconnect, run.id)
    assert run.state is not None
    assert run.state.is_paused(), run.state


async def test_one_that_was_replaced_says_so_also_when_the_case_is_over(
    running: Running, clean_prefect: PrefectServer, store: Store, fleet: sandbox.Served
) -> None:
    connection = await lost(store, fleet)
    with on(clean_prefect):
        first = await begin(running, reconnect, connection=connection.makini_key)
        second = await begin(running, reconnect, connection=connection.makini_key)
        await restored(store, fleet, connection)
        await running.client.resume_flow_run(first.id, run_input={})
        first = await work(running, reconnect, first.id)
    assert first.state is not None
    assert first.state.name == "Replaced"
    assert str(second.id) in str(first.state.message)


@pytest.mark.parametrize("ending", ["Reconnected", "Failed"])
async def test_one_killed_after_its_case_was_closed_ends_as_the_case_did(
    running: Running,
    clean_prefect: PrefectServer,
    store: Store,
    fleet: sandbox.Served,
    ending: str,
) -> None:
    """It goes on in a new process, as does one that was frozen; a later run has nothing to do."""
    connection = await lost(store, fleet)
    answer = {"give_up": True, "by": "Petra"} if ending == "Failed" else {}
    with on(clean_prefect):
        run = await begin(running, reconnect, connection=connection.makini_key)
        if ending == "Reconnected":
            await restored(store, fleet, connection)
        await running.client.resume_flow_run(run.id, run_input=answer)
        first = await work(running, reconnect, run.id)
        [case] = await rows(store, Reconnect)
        later = await reconnect(case.incident_id, return_state=True)
        await running.client.set_flow_run_state(run.id, Pending(), force=True)
        again = await work(running, reconnect, run.id)
    assert first.state is not None
    assert again.state is not None
    assert later.name == "Skipped"
    assert (first.state.name, again.state.name) == (ending, ending), again.state.message
    assert again.state.message == first.state.message
    [after] = await rows(store, Reconnect)
    assert after == case


async def test_for_a_connection_that_was_disconnected_it_says_that_it_is(
    clean_prefect: PrefectServer, store: Store, fleet: sandbox.Served
) -> None:
    connection = await lost(store, fleet)
    async with Runtime.open() as rt:
        await disconnect(rt, connection.id, confirm=connection.makini_key, by="Petra")
    with on(clean_prefect):
        state = await reconnect(connection=connection.makini_key, return_state=True)
    assert state.name == "Refused"
    assert "is disconnected" in str(state.message)
    assert "has not lost its login" not in str(state.message)


async def test_after_the_deadline_it_says_what_ended_the_wait_and_what_to_do(
    clean_prefect: PrefectServer, store: Store, fleet: sandbox.Served
) -> None:
    connection = await lost(store, fleet)
    async with store.write() as session:
        joined = utcnow() - DEADLINE
        await session.execute(update(IncidentConnection).values(joined_at=joined))
        await session.execute(update(Reconnect).values(outcome="not_in_time", closed_at=utcnow()))
    with on(clean_prefect):
        state = await reconnect(connection=connection.makini_key, return_state=True)
    assert state.name == "Skipped"
    said = str(state.message)
    assert "nobody logged in" in said
    assert "Call the customer" in said
    assert "`connect`" in said
