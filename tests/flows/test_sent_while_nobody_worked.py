"""A form counts from when somebody sent it, and not from when a worker took its run up."""

from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col

import sandbox
from flows.authentication_setup import authentication_setup
from flows.gate import gate
from flows.reconnect import reconnect
from linekeeper.clock import utcnow
from linekeeper.implementation.advance import look
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.tables import Audit, AuthenticationSetup, Incident, Reconnect
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import begin, work
from tests.flows.test_authentication_setup import arriving, box, rows, rt
from tests.flows.test_reconnect_flows import fleet, lost
from tests.flows.test_reconnect_flows import rows as stored
from tests.flows.test_work_of_gates import begun, gate_of
from tests.reconnect.working_clock import at

__all__ = ["box", "fleet", "rt"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    on_both,
]
NIGHTS = timedelta(days=4)
"""For so long no worker takes anything up: there are working days in it, whatever today is."""


async def test_a_step_is_done_when_its_form_was_sent_and_the_nights_after_it_are_nobodys(
    running: Running, clean_prefect: PrefectServer, rt: Runtime
) -> None:
    implementation = await begun(rt)
    row = await gate_of(rt, "kickoff")
    with on(clean_prefect):
        run = await begin(running, gate, gate=row.id)
        for given in (
            {"outcome": "blocked", "evidence": "their IT is away", "whose_turn": "customer"},
            {"outcome": "done", "evidence": "list signed"},
        ):
            before = utcnow()
            await running.client.resume_flow_run(run.id, run_input={"by": "Petra", **given})
            after = utcnow()
            with at(utcnow() + NIGHTS):
                run = await work(running, gate, run.id)
            row = await gate_of(rt, "kickoff")
            said = row.blocks[-1]["since"] if row.done_at is None else row.done_at.isoformat()
            assert before.isoformat() <= said <= after.isoformat(), (given, said)
    assert run.state is not None
    assert run.state.name == "Completed", run.state
    audits = await rows(rt, Audit, col(Audit.action).like("gate.%"))
    assert all(audit.at <= after for audit in audits)
    progress = await look(rt.store, implementation.id, now=utcnow() + NIGHTS)
    spent = progress.evaluation.so_far["kickoff"]
    assert spent.finished is not None
    assert spent.opened is not None
    assert spent.finished - spent.opened < 0.1, "four days were no work on this step"
    assert progress.evaluation.waited["customer"] < 0.1, "they had answered"


@pytest.mark.repeats(
    "flows/test_sent_while_nobody_worked.py"
    "::test_a_step_is_done_when_its_form_was_sent_and_the_nights_after_it_are_nobodys"
)
async def test_a_snooze_of_an_hour_is_over_an_hour_after_it_was_asked_for(
    running: Running, clean_prefect: PrefectServer, store: Store, fleet: sandbox.Served
) -> None:
    await lost(store, fleet)
    [incident] = await stored(store, Incident)
    with on(clean_prefect):
        run = await begin(running, reconnect, incident=incident.id)
        answer = {"snooze": "1 hour", "by": "Petra"}
        await running.client.resume_flow_run(run.id, run_input=answer)
        after = utcnow()
        with at(utcnow() + timedelta(hours=10)):
            await work(running, reconnect, run.id)
    [case] = await stored(store, Reconnect)
    assert case.snoozed_until is not None
    assert case.snoozed_until <= after + timedelta(hours=1)


AGAIN = pytest.mark.repeats(
    "flows/test_sent_while_nobody_worked.py"
    "::test_a_login_after_the_form_was_sent_is_one_whenever_the_run_takes_it_up"
)


@pytest.mark.parametrize("decision", [pytest.param("confirmed", marks=AGAIN), "send again"])
async def test_a_login_after_the_form_was_sent_is_one_whenever_the_run_takes_it_up(
    running: Running,
    clean_prefect: PrefectServer,
    rt: Runtime,
    box: sandbox.Served,
    decision: str,
) -> None:
    connection = await arriving(rt, box)
    with on(clean_prefect):
        run = await begin(
            running, authentication_setup, connection=connection.makini_key, by="Olaf"
        )
        answers: list[dict[str, Any]] = [{"decision": "confirmed"}, {"decision": "send again"}]
        for given in answers[: 1 + (decision == "send again")]:
            await running.client.resume_flow_run(run.id, run_input={"by": "Olaf", **given})
            after = utcnow()
            with at(utcnow() + NIGHTS):
                run = await work(running, authentication_setup, run.id)
    [row] = await rows(rt, AuthenticationSetup)
    counts = row.confirmed_at if decision == "confirmed" else row.logins_from
    assert counts is not None
    assert counts <= after
