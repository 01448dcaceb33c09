"""The form of `reconnect`, answered as people do, at a real Prefect."""

from typing import Any
from uuid import UUID

import pytest

import sandbox
from flows.reconnect import reconnect
from linekeeper.store import Store
from linekeeper.store.tables import Audit, Incident, Reconnect
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import asks, begin, work
from tests.flows.test_reconnect_flows import fleet, lost, rows

__all__ = ["fleet"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    on_both,
]


@pytest.mark.parametrize(
    "decision", [{"give_up": True}, pytest.param({"snooze": "4 hours"}, marks=pytest.mark.soak)]
)
async def test_a_decision_without_a_name_is_not_taken_and_the_next_form_says_so(
    running: Running,
    clean_prefect: PrefectServer,
    store: Store,
    fleet: sandbox.Served,
    decision: dict[str, Any],
) -> None:
    await lost(store, fleet)
    [incident] = await rows(store, Incident)

    async def answer(run_id: UUID, **given: Any) -> None:
        await running.client.resume_flow_run(run_id, run_input=given)
        run = await work(running, reconnect, run_id)
        assert run.state is not None
        ended = given.get("give_up", False) and bool(given["by"].strip())
        assert run.state.is_final() == ended, run.state

    async def taken() -> list[Any]:
        [case] = await rows(store, Reconnect)
        audits = await rows(store, Audit, Audit.action == "reconnect.answered")
        return [case.outcome, case.snoozed_until is not None, [row.by for row in audits]]

    with on(clean_prefect):
        run = await begin(running, reconnect, incident=incident.id)
        await answer(run.id, **decision, by=" ")
        assert await taken() == [None, False, []]
        assert "not taken:** say who you are" in await asks(running, run.id)

        await answer(run.id, note="they call back")
        assert (await taken())[:2] == [None, False]
        assert "not taken" not in await asks(running, run.id)

        await answer(run.id, **decision, by="Petra")
    outcome, snoozed, by = await taken()
    assert (outcome == "given_up", snoozed) == ("give_up" in decision, "snooze" in decision)
    assert by[-1] == "Petra"
