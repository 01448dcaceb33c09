"""A lost login as one graph: what the consumer did, what is waited for, and what the run does."""

import itertools
from typing import Any

import pytest
from sqlalchemy import select
from sqlmodel import col

import sandbox
from flows.reconnect import reconnect
from linekeeper.outbox.senders.reconnect import advance_due_cases
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.tables import Incident, IncidentEntry, Outbox
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import begin, edges, work
from tests.flows.test_reconnect_flows import adopted, fleet, lost, rows, swept

__all__ = ["fleet"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    on_both,
]
ASKED = [
    "renew the login",
    "make the connect link",
    "ask the customer by mail",
    "remind the customer",
    "login",
]


async def states(running: Running, run_id: Any) -> dict[str, str]:
    answer = await running.client.request("GET", f"/flow_runs/{run_id}/graph-v2")
    return {node["label"]: node["state_type"] for _, node in answer.json()["nodes"]}


async def test_a_lost_login_is_one_graph_from_the_renewal_to_the_end(
    running: Running, clean_prefect: PrefectServer, store: Store, fleet: sandbox.Served
) -> None:
    connection = await lost(store, fleet)
    [incident] = await rows(store, Incident)
    with on(clean_prefect):
        run = await begin(running, reconnect, incident=incident.id)
        assert run.state is not None
        assert run.state.is_paused(), run.state
        labels, lines = await edges(running, run.id, len(ASKED))
        assert labels == sorted(ASKED)
        assert lines == set(itertools.pairwise(ASKED))
        seen = await states(running, run.id)
        assert seen["login"] == seen["remind the customer"] == "RUNNING"
        assert seen["make the connect link"] == "COMPLETED"

        found = fleet.world.find(connection.makini_key)
        assert found is not None
        fleet.world.mend(found)
        await swept(clean_prefect)
        async with Runtime.open() as rt:
            await advance_due_cases(rt)
        async with store.read() as session:
            wakes = await session.scalars(
                select(Outbox.id).where(
                    col(Outbox.dedupe_key).startswith("run:wake:"), col(Outbox.status) == "pending"
                )
            )
            assert list(wakes)
        await running.client.resume_flow_run(run.id, run_input={"by": "linekeeper"})
        run = await work(running, reconnect, run.id)
        assert run.state is not None
        assert run.state.name == "Reconnected", run.state
        name = f"{connection.name}"
        labels, lines = await edges(running, run.id, len(ASKED) + 4)
    [verify] = [label for label in labels if label.startswith("verify ")]
    [backfill] = [label for label in labels if label.startswith("backfill ")]
    assert name.split(" · ", maxsplit=1)[0] in verify
    chain = [*ASKED, verify, backfill, "close", "notify"]
    assert labels == sorted(chain)
    assert lines == set(itertools.pairwise(chain))
    assert (await states(running, run.id))["login"] == "COMPLETED"


async def test_nothing_is_waited_for_once_the_login_is_back_at_a_connection_that_flaps(
    running: Running, clean_prefect: PrefectServer, store: Store, fleet: sandbox.Served
) -> None:
    """Its incident stays open, about the flapping."""
    connection = await lost(store, fleet)
    found = fleet.world.find(connection.makini_key)
    assert found is not None
    for _ in range(2):
        fleet.world.mend(found)
        await adopted()
        fleet.world.change_credentials(found)
        await adopted()
    async with Runtime.open() as rt:
        await advance_due_cases(rt)
    with on(clean_prefect):
        run = await begin(running, reconnect, connection=connection.makini_key)
        fleet.world.mend(found)
        await adopted()
        await running.client.resume_flow_run(run.id, run_input={})
        run = await work(running, reconnect, run.id)
        assert run.state is not None
        assert run.state.name == "Reconnected", run.state
        seen = await states(running, run.id)
    [incident] = await rows(store, Incident)
    assert (incident.kind, incident.resolved_at) == ("degraded", None)
    assert {seen[step] for step in ASKED} == {"COMPLETED"}, seen


async def test_what_was_answered_before_the_login_is_kept_though_nothing_is_waited_for(
    running: Running, clean_prefect: PrefectServer, store: Store, fleet: sandbox.Served
) -> None:
    """No worker took the run between the two."""
    connection = await lost(store, fleet)
    [incident] = await rows(store, Incident)
    with on(clean_prefect):
        run = await begin(running, reconnect, incident=incident.id)
        note = {"by": "Petra", "note": "The vendor is on it."}
        await running.client.resume_flow_run(run.id, run_input=note)
        found = fleet.world.find(connection.makini_key)
        assert found is not None
        fleet.world.mend(found)
        await swept(clean_prefect)
        run = await work(running, reconnect, run.id)
        assert run.state is not None
        assert run.state.name == "Reconnected", run.state
    said = await rows(store, IncidentEntry, col(IncidentEntry.text).contains("vendor"))
    assert [entry.text for entry in said] == ["Petra: The vendor is on it."]
