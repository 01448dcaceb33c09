"""A reconnect's run that is gone, or fails again and again, is started anew."""

from datetime import timedelta
from uuid import UUID

import pytest
from prefect.states import Cancelled, Crashed, Suspended
from sqlalchemy import select, update

import sandbox
from linekeeper.clock import utcnow
from linekeeper.store import Store
from linekeeper.store.tables import (
    Incident,
    Outbox,
    Reconnect,
)
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on_both
from tests.flows.test_reconnect_flows import fleet, lost, rows, stand_in, swept

__all__ = ["fleet"]  # fixtures
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    on_both,
]


AGAIN = pytest.mark.repeats(
    "flows/test_reconnect_anew.py"
    "::test_a_run_that_is_gone_while_waiting_is_started_anew_by_the_next_sweep"
)


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("cancelled", marks=AGAIN),
        pytest.param("crashed", marks=AGAIN),
        "deleted",
        "waiting",
    ],
)
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
