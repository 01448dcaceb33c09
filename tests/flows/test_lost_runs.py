"""Runs whose worker died: they go on in the same run; what waits for people is left alone."""

import asyncio
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelling, Crashed, Pending, Suspended
from prefect.states import Running as AtWork
from sqlmodel import col, select

from flows.gate import gate as gate_flow
from flows.implementation_skip import implementation_skip
from linekeeper.clock import utcnow
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Outbox
from tasks.prefect_adapter.lost_runs import (
    BEGINS_ELSEWHERE,
    BEGINS_WITHIN,
    CRASHES,
    LostRuns,
    silent_after,
)
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tests.delivering import deliver_runs
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import Running, on, on_both
from tests.flows.suspended import work
from tests.flows.test_implementation_run import Watched
from tests.newest_runs import newest_runs

pytestmark = [on_both, pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]
SECOND = timedelta(seconds=1)


async def in_state(running: Running, flow: str, state: State[None], **parameters: str) -> FlowRun:
    """A run of `flow`, one of ours, in that state since now."""
    flow_id = await running.client.create_flow_from_name(flow)
    deployment = await running.client.create_deployment(flow_id, flow, tags=["linekeeper"])
    run = await running.client.create_flow_run_from_deployment(deployment, parameters=parameters)
    await running.client.set_flow_run_state(run.id, state, force=True)
    return run


async def found_of(
    lost: LostRuns, running: Running, *runs: FlowRun, now: datetime
) -> list[FlowRun]:
    """Those of `runs` whose process is found gone; others share the server."""
    found = await lost.look(running.client, now=now, seconds=now.timestamp())
    return [run for run in runs if str(run.id) in found]


async def beats(running: Running, run: FlowRun, at: datetime) -> None:
    """Let the run's process be heard, `at` by its own clock; ends once that is written."""
    event = {
        "id": str(uuid4()),
        "event": "prefect.flow-run.heartbeat",
        "occurred": at.isoformat(),
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run.id}"},
        "related": [],
        "payload": {},
    }
    await running.client.request("POST", "/events", json=[event])
    wanted = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run.id}"]},
        "occurred": {
            "since": (at - SECOND).isoformat(),
            "until": (at + SECOND).isoformat(),
        },
    }
    async with asyncio.timeout(90):  # the server writes events late
        while True:
            answer = await running.client.request("POST", "/events/filter", json={"filter": wanted})
            if answer.json()["events"]:
                return
            await asyncio.sleep(0.5)


async def name_of_state(running: Running, run: FlowRun) -> str:
    return (await running.client.read_flow_run(run.id)).state_name or ""


async def test_what_a_dead_worker_took_and_never_began_is_due_again_in_the_same_run(
    running: Running,
) -> None:
    submitting = Pending(name="Submitting")
    waits = await in_state(running, "implementation", submitting)
    sweep = await in_state(running, "health-sweep", submitting)
    people = await in_state(running, "gate", Suspended(timeout_seconds=86_400))
    lost = LostRuns()
    now = utcnow()
    mine = (waits, sweep, people)
    assert await found_of(lost, running, *mine, now=now) == []
    assert await found_of(lost, running, *mine, now=now + BEGINS_WITHIN - 60 * SECOND) == []
    found = await found_of(lost, running, *mine, now=now + BEGINS_WITHIN + 60 * SECOND)
    assert found == [waits, sweep]
    assert await name_of_state(running, waits) == "Scheduled"
    assert await name_of_state(running, sweep) == "Scheduled"
    assert await name_of_state(running, people) == "Suspended"


async def test_a_crashed_run_that_waits_for_people_goes_on_unless_it_was_cancelled_or_replaced(
    running: Running,
) -> None:
    async def crashed(flow: str, *before: State[None], **parameters: str) -> FlowRun:
        run = await in_state(running, flow, AtWork(), **parameters)
        for state in (*before, Crashed(message="Process exited with status code: -9")):
            await running.client.set_flow_run_state(run.id, state, force=True)
        return run

    step = await crashed("gate", step="one")
    sweep = await crashed("health-sweep")
    ended = await crashed("gate", Cancelling(), step="two")
    again = await crashed("reconnect", *(Crashed(), AtWork()) * CRASHES)
    replaced = await crashed("gate", step="three")
    await running.client.create_flow_run_from_deployment(
        cast("UUID", replaced.deployment_id), parameters=replaced.parameters
    )
    lost, now = LostRuns(), utcnow()
    mine = (step, sweep, ended, again, replaced)
    assert await found_of(lost, running, *mine, now=now) == [step]
    assert await name_of_state(running, step) == "Scheduled"
    assert await found_of(lost, running, *mine, now=now) == []


async def test_where_an_image_is_pulled_first_a_run_may_take_longer_to_begin(
    running: Running,
) -> None:
    pool = WorkPoolCreate(name="elsewhere", type="docker")
    await running.client.create_work_pool(pool, overwrite=True)
    flow_id = await running.client.create_flow_from_name("digest")
    deployment = await running.client.create_deployment(
        flow_id, "digest elsewhere", tags=["linekeeper"], work_pool_name="elsewhere"
    )
    run = await running.client.create_flow_run_from_deployment(deployment)
    await running.client.set_flow_run_state(run.id, Pending(name="Submitting"), force=True)
    lost, now = LostRuns(), utcnow()
    assert await found_of(lost, running, run, now=now) == []
    assert await found_of(lost, running, run, now=now + BEGINS_WITHIN + 60 * SECOND) == []
    assert await found_of(lost, running, run, now=now + BEGINS_ELSEWHERE + 60 * SECOND) == [run]


async def test_a_silent_process_is_gone_its_run_goes_on_or_is_crashed_one_that_is_heard_works(
    running: Running,
) -> None:
    lost, begun = LostRuns(), utcnow()
    step = await in_state(running, "gate", AtWork())
    digest = await in_state(running, "digest", AtWork())
    heard = await in_state(running, "reconcile", AtWork())
    people = await in_state(running, "reconnect", Suspended(timeout_seconds=86_400))
    silence = silent_after()
    assert silence == timedelta(minutes=10)
    later = begun + silence * 2
    mine = (step, digest, heard, people)
    assert await found_of(lost, running, *mine, now=begun) == []
    await beats(running, heard, later - 60 * SECOND)
    other = LostRuns()
    assert await found_of(other, running, *mine, now=begun) == []
    other.away()
    assert await found_of(other, running, *mine, now=later) == [], "it had not listened for long"
    assert await found_of(lost, running, *mine, now=later) == [step, digest]
    assert await name_of_state(running, step) == "Scheduled"
    assert await name_of_state(running, digest) == "Crashed"
    assert await name_of_state(running, heard) == "Running"
    assert await name_of_state(running, people) == "Suspended"


async def test_a_clock_that_is_set_a_day_ahead_makes_no_run_silent(running: Running) -> None:
    day, begun = timedelta(days=1), utcnow()
    silence = silent_after()
    assert silence is not None
    sweep = await in_state(running, "health-sweep", AtWork())
    taken = await in_state(running, "digest", Pending(name="Submitting"))
    lost = LostRuns()

    async def found(seconds: float) -> list[FlowRun]:
        ids = await lost.look(
            running.client, now=begun + day + seconds * SECOND, seconds=1_000 + seconds
        )
        return [run for run in (sweep, taken) if str(run.id) in ids]

    await lost.look(running.client, now=begun, seconds=1_000)
    assert await found(30) == [], "both lived half a minute ago"
    await beats(running, sweep, begun + day + 40 * SECOND)
    assert await found(silence.total_seconds()) == [taken], "it was heard by the clock of tomorrow"
    assert await found(2 * silence.total_seconds()) == [sweep]


async def test_a_process_whose_clock_is_behind_is_heard_and_a_run_it_lost_ends_in_time(
    running: Running,
) -> None:
    hours, begun = timedelta(hours=3), utcnow()
    silence = silent_after()
    assert silence is not None
    sweep = await in_state(running, "health-sweep", AtWork())
    lost = LostRuns()

    async def found(seconds: float) -> list[FlowRun]:
        ids = await lost.look(
            running.client, now=begun - hours + seconds * SECOND, seconds=1_000 + seconds
        )
        return [sweep] if str(sweep.id) in ids else []

    assert await found(0) == []
    await beats(running, sweep, begun - hours)
    assert await found(silence.total_seconds()) == []
    assert await found(2 * silence.total_seconds()) == [sweep]
    assert await name_of_state(running, sweep) == "Crashed"


@pytest.mark.repeats(
    "flows/test_implementation_run.py::test_what_moves_while_the_run_works_wakes_it_when_it_is_suspended_and_only_once",
    "flows/test_implementation_gate_runs.py::test_a_run_for_a_gate_that_is_settled_or_unknown_ends_at_once",
)
async def test_the_form_of_a_step_that_was_settled_elsewhere_ends(
    watched_settings: Settings, running: Running, store: Store, clean_prefect: PrefectServer
) -> None:
    watched = Watched(running, store, watched_settings)
    with on(clean_prefect):
        await watched.start()
        async with PrefectOrchestrator.open(watched_settings) as orchestrator:
            await deliver_runs(store, orchestrator, "test")
        kickoff = (await watched.standing()).gates["kickoff"]
        async with store.read() as session:
            key = await session.scalar(
                select(col(Outbox.dedupe_key)).where(
                    col(Outbox.dedupe_key).startswith(f"gate:{kickoff.id}:")
                )
            )
        [form] = [run for run in await newest_runs(running.client) if run.idempotency_key == key]
        waits = await work(running, gate_flow, UUID(str(form.id)))
        assert waits.state_name == "Suspended"
        await implementation_skip("Acme", step="kickoff", reason="they know it", by="Olaf")
        async with asyncio.timeout(90):
            while await name_of_state(running, form) == "Suspended":
                async with PrefectOrchestrator.open(watched_settings) as orchestrator:
                    await deliver_runs(store, orchestrator, "test")
                await asyncio.sleep(0.5)
        over = await work(running, gate_flow, UUID(str(form.id)))
        assert over.state is not None
        assert over.state.is_completed(), over.state


@pytest.fixture
def watched_settings(settings: Settings, clean_prefect: PrefectServer) -> Settings:
    return settings.model_copy(update={"prefect_port": clean_prefect.port})
