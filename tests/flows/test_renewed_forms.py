"""What a suspended run says and is tagged with is so by now, and not as when it suspended.

Prefect keeps a form's words as they were then; somebody may open it days later.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update
from sqlmodel import col

import sandbox
from flows.advance_implementations import advance_implementations
from flows.authentication_setup import authentication_setup
from flows.gate import gate
from flows.implementation_change import implementation_change
from flows.reconnect import reconnect
from linekeeper.clock import utcnow
from linekeeper.preflight.verdict import Verdict
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Connection, ConnectLink, Customer, Incident, Reconnect
from tasks import waiting_form
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import asks, begin, work
from tests.flows.test_authentication_setup import (
    TARGET,
    answered,
    box,
    kept,
    log_in,
    rt,
    woken,
)
from tests.flows.test_reconnect_flows import fleet, lost, rows, swept
from tests.flows.test_work_of_gates import begun, gate_of, kicked_off

__all__ = ["box", "fleet", "rt"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    on_both,
]
RENAMED = "Acme Steel & Sons"


async def rename(store: Store, customer_id: str | None) -> None:
    async with store.write() as session:
        named = col(Customer.id) == customer_id
        await session.execute(update(Customer).where(named).values(name=RENAMED))


async def inputs(running: Running, run_id: UUID) -> set[Any]:
    """What Prefect keeps of the forms of a run: what is written anew has another id."""
    kept = await running.client.filter_flow_run_input(run_id, "suspended-", 50, set())
    return {(each.key, each.id) for each in kept}


async def whom(running: Running, run_id: UUID) -> set[str]:
    tags = (await running.client.read_flow_run(run_id)).tags
    return {tag for tag in tags if tag.startswith("waiting:")}


@pytest.mark.repeats(
    "flows/test_renewed_forms.py::test_a_step_says_what_is_so_when_a_form_changes_it_and_by_the_hour",
    "flows/test_reconnect_answers.py::test_a_decision_without_a_name_is_not_taken_and_the_next_form_says_so",
)
async def test_a_reconnect_says_whose_login_is_waited_for_as_the_last_sweep_knew_it(
    running: Running, clean_prefect: PrefectServer, store: Store, fleet: sandbox.Served
) -> None:
    connection = await lost(store, fleet)
    [incident] = await rows(store, Incident)
    with on(clean_prefect):
        run = await begin(running, reconnect, incident=incident.id)
        await running.client.resume_flow_run(run.id, run_input={"give_up": True})
        await work(running, reconnect, run.id)
        was = await inputs(running, run.id)
        await swept(clean_prefect)
        assert await inputs(running, run.id) == was, "what is so is not written again"

        await rename(store, connection.customer_id)
        await swept(clean_prefect)
        said = await asks(running, run.id)
        assert "Acme Steel &amp; Sons" in said or RENAMED in said
        assert "Acme Metals" not in said
        assert "say who you are" in said, "that the last answer was not taken stands there still"

        answer = {"note": "they call back", "by": "Petra"}
        await running.client.resume_flow_run(run.id, run_input=answer)
        run = await work(running, reconnect, run.id)
        assert run.state is not None
        assert run.state.is_paused(), run.state
        said = await asks(running, run.id)
        assert "say who you are" not in said
    [case] = await rows(store, Reconnect)
    assert case.answers == 2


async def test_a_form_that_was_lost_on_the_way_is_written_again_and_one_that_is_coming_is_not(
    running: Running,
    clean_prefect: PrefectServer,
    store: Store,
    fleet: sandbox.Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await lost(store, fleet)
    [incident] = await rows(store, Incident)
    with on(clean_prefect):
        run = await begin(running, reconnect, incident=incident.id)
        said = await asks(running, run.id)
        key = "suspended-waiting-1-description"
        await running.client.delete_flow_run_input(run.id, key)
        await swept(clean_prefect)
        assert key not in {kept for kept, _ in await inputs(running, run.id)}
        monkeypatch.setattr(waiting_form, "WRITTEN_WITHIN", timedelta())  # it is long ago
        await swept(clean_prefect)
        assert await asks(running, run.id) == said


async def test_a_step_says_what_is_so_when_a_form_changes_it_and_by_the_hour(
    running: Running,
    clean_prefect: PrefectServer,
    settings: Settings,
    rt: Runtime,
    box: sandbox.Served,
) -> None:
    with on(clean_prefect):
        implementation = await begun(rt)
        kickoff = await gate_of(rt, "kickoff")
        run = await begin(running, gate, gate=kickoff.id)
        assert "Due" not in await asks(running, run.id)
        due = utcnow().date()
        changed = await implementation_change(
            implementation.slug, by="Olaf", step="kickoff", due=due, return_state=True
        )
        assert changed.name == "Completed", changed.message
        assert f"Due {due}" in await asks(running, run.id)

        await rename(rt.store, implementation.customer_id)
        was = await inputs(running, run.id)
        state = await advance_implementations(return_state=True)
        assert state.name == "Completed", state.message
        assert "Acme Steel" in await asks(running, run.id)
        changed_keys = {key for key, _ in was ^ await inputs(running, run.id)}
        assert changed_keys == {"suspended-answer-0-description"}
        answer = {"outcome": "done", "evidence": "list signed", "by": "Petra"}
        await running.client.resume_flow_run(run.id, run_input=answer)
        run = await work(running, gate, run.id)
        assert run.state is not None
        assert run.state.is_completed(), run.state


@pytest.mark.repeats(
    "flows/test_renewed_forms.py::test_a_step_says_what_is_so_when_a_form_changes_it_and_by_the_hour"
)
async def test_a_set_up_says_what_preflight_lacks_by_now(
    running: Running,
    clean_prefect: PrefectServer,
    rt: Runtime,
    box: sandbox.Served,
) -> None:
    with on(clean_prefect):
        implementation = await kicked_off(rt, hosting="on-premises", targets=[TARGET])
        run = await begin(
            running, authentication_setup, implementation=implementation.slug, by="Olaf"
        )
        assert "was not checked from inside" in await asks(running, run.id)
        await kept(rt, (Verdict(TARGET, "inside", "tcp", "finding", "closed"),), minutes_ago=2)
        await advance_implementations(return_state=True)
        said = await asks(running, run.id)
        assert "closed" in said
        assert "was not checked" not in said


@pytest.mark.repeats(
    "implementation/test_login_turn.py::test_from_the_login_on_it_is_our_turn_until_a_record_was_read",
    "implementation/test_login_turn.py::test_it_is_the_customers_turn_again_once_a_new_login_was_asked_for",
)
async def test_a_set_up_waits_for_us_from_the_login_on_until_another_is_asked_for(
    running: Running,
    clean_prefect: PrefectServer,
    settings: Settings,
    rt: Runtime,
    box: sandbox.Served,
) -> None:
    with on(clean_prefect):
        implementation = await kicked_off(rt)
        run = await begin(
            running, authentication_setup, implementation=implementation.slug, by="Olaf"
        )
        assert await whom(running, run.id) == {"waiting:customer"}
        [link] = await rows(rt.store, ConnectLink)
        assert await log_in(rt, box, link, "new:sap-ecc") == "done"
        [connection] = await rows(rt.store, Connection, col(Connection.provider) == "SAP ECC")
        found = box.world.find(connection.makini_key)
        assert found is not None
        box.world.change_credentials(found)
        run = await woken(running, rt, settings, run)
        assert run.name.endswith("waits for a read with the new token"), run.state
        assert await whom(running, run.id) == {"waiting:us"}

        run = await answered(running, run, decision="send again")
        assert run.name.endswith("waits for the customer's login"), run.state
        assert await whom(running, run.id) == {"waiting:customer"}
