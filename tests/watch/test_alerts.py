"""What Prefect's automations report reaches people, unless the run is red by what it found."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.events.schemas.automations import AutomationCore
from prefect.states import Cancelled, Completed, Crashed, Failed, State
from rich.console import Console
from sqlalchemy import update
from sqlmodel import col, select

from linekeeper.cli.deploy import deploy
from linekeeper.notify.compose import plain
from linekeeper.notify.view import Links, load_views
from linekeeper.receiver import serve
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.engine import encryption_keys
from linekeeper.store.tables import Incident, IncidentEntry, PartHeartbeat, RunAlert
from linekeeper.watch.alerts import (
    Alert,
    RunOutcome,
    alert_secrets,
    record_alert,
    reported,
    settle_reported,
    watch_runs,
)
from linekeeper.watch.queries import note_ended
from tasks.prefect_adapter.automations import GONE
from tasks.prefect_adapter.names import automation_name
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tests.answering import answering
from tests.cli.few import few
from tests.fixtures_prefect import PrefectServer
from tests.flows.conftest import on_both

__all__ = ["few"]


async def incidents(store: Store) -> dict[str, str]:
    """Kind → status."""
    async with store.read() as session:
        rows = await session.execute(select(col(Incident.kind), col(Incident.status)))
        return {row.kind: row.status for row in rows}


async def deploy_quietly(settings: Settings) -> None:
    """Deploy, with schedules that rest."""
    console = Console(file=io.StringIO())
    await deploy(settings, reset=False, console=console, schedules_active=False)


async def age(store: Store, *, minutes: float) -> None:
    """As if all that was reported had been so long ago."""
    async with store.write() as session:
        now = await store.clock(session)
        before = now - timedelta(minutes=minutes)
        await session.execute(update(RunAlert).values(at=before))
        await session.execute(update(PartHeartbeat).values(since=before))
    await watch_runs(store)


@pytest.fixture
async def receiver(settings: Settings) -> AsyncIterator[Settings]:
    """Settings of a receiver that answers at their public URL."""
    settings = settings.model_copy(update={"receiver_port": 0})
    async with AsyncExitStack() as stack:
        rt = await stack.enter_async_context(Runtime.open(settings))
        listener = stack.enter_context(serve.listening(settings))
        await stack.enter_async_context(answering(rt, listener))
        yield settings.model_copy(update={"public_url": serve.address(listener)})


@on_both
@pytest.mark.usefixtures("few")
async def test_a_run_that_breaks_or_crashes_is_an_incident_one_red_by_its_findings_is_not(
    receiver: Settings, store: Store, clean_prefect: PrefectServer
) -> None:
    settings = receiver.model_copy(
        update={"prefect_port": clean_prefect.port, "makini_api_url": "http://127.0.0.1:9"}
    )
    async with (
        PrefectClient(clean_prefect.api_url) as client,
        PrefectOrchestrator.open(settings) as orchestrator,
    ):
        trigger = {"type": "event", "posture": "Reactive", "threshold": 1, "within": 0}
        nowhere = {**trigger, "expect": ["nothing.happens"]}
        old = {"name": automation_name(GONE[0]), "trigger": nowhere}
        nothing = AutomationCore.model_validate({**old, "actions": [{"type": "do-nothing"}]})
        await client.create_automation(nothing)
        crashes = {"type": "change-flow-run-state", "state": "CRASHED"}
        zombie = {"name": automation_name(GONE[1]), "trigger": nowhere, "actions": [crashes]}
        await client.create_automation(AutomationCore.model_validate(zombie))
        late = nothing.model_copy(update={"name": "Linekeeper: run late", "enabled": False})
        await client.create_automation(late)
        await deploy_quietly(settings)
        automations = {
            automation.name: automation for automation in await client.read_automations()
        }
        assert not {automation_name(name) for name in GONE} & set(automations)
        assert not automations["Linekeeper: run late"].enabled
        assert {a.type for automation in automations.values() for a in automation.actions} == {
            "call-webhook"
        }

        async def run(deployment: str) -> str:
            found = await client.read_deployment_by_name(f"{deployment}/{deployment}")
            made = await client.create_flow_run_from_deployment(found.id, name='a "quoted" run')
            return str(made.id)

        await asyncio.sleep(2)  # until the server has loaded its automations
        by_findings, broken, crashed = [
            await run(name) for name in ("health-sweep", "digest", "reconcile")
        ]
        await note_ended(store, by_findings)
        failed = Failed(message='2 new: {"a": 1} \\ \n at https://user:pw@host.example/x?t=1')
        await client.set_flow_run_state(by_findings, failed, force=True)  # type: ignore[arg-type]
        await client.set_flow_run_state(broken, failed, force=True)  # type: ignore[arg-type]
        await client.set_flow_run_state(crashed, Crashed(message="lost"), force=True)  # type: ignore[arg-type]
        async with asyncio.timeout(60):
            while len(await reported(store)) < 2:
                await asyncio.sleep(0.2)
        await age(store, minutes=2)
        assert await incidents(store) == {"run_failed": "open", "run_crashed": "open"}
        assert {alert.subject for alert in await reported(store)} == {"digest", "reconcile"}
        async with store.read() as session:
            texts = [str(incident.summary) for incident in await session.scalars(select(Incident))]
        assert not [text for text in texts if "user:pw" in text or "t=1" in text]
        assert all("`linekeeper doctor`" in text for text in texts)

        for name in ("digest", "reconcile"):
            await client.set_flow_run_state(await run(name), Completed(), force=True)  # type: ignore[arg-type]
        async with asyncio.timeout(60):
            while await reported(store):
                alerts = await reported(store)
                sight = await orchestrator.look(alerts)
                await settle_reported(
                    store,
                    alerts,
                    states=sight.runs,
                    finished=sight.finished,
                    pool_ready=sight.pool_ready,
                    late=sight.late,
                )
        assert set((await incidents(store)).values()) == {"resolved"}


async def test_only_who_shows_the_secret_is_heard(receiver: Settings, store: Store) -> None:
    alert = {"kind": "run_crashed", "subject": "digest", "run_id": "r", "run_name": "d"}
    [secret] = alert_secrets(encryption_keys(receiver))
    async with httpx.AsyncClient(base_url=receiver.resolved_public_url) as client:

        async def answered(body: object, shown: str | None = secret) -> int:
            headers = {} if shown is None else {"Authorization": f"Bearer {shown}"}
            answer = await client.post("/prefect/alerts", json=body, headers=headers)
            return answer.status_code

        for wrong in (None, "x", encryption_keys(receiver)[0]):
            assert await answered(alert, wrong) == 401
        assert await incidents(store) == {}
        for bad in ([], {}, {**alert, "kind": "x"}, {**alert, "subject": 1}):
            assert await answered(bad) == 422
        assert [await answered(alert), await answered(alert)] == [202, 202]
    await age(store, minutes=2)
    assert await incidents(store) == {"run_crashed": "open"}


async def settle_states(store: Store, states: dict[str, str]) -> None:
    """Prefect answers that the reported runs are in these states, and its pool is ready."""
    alerts = await reported(store)
    await settle_reported(store, alerts, states=states, finished={}, pool_ready=True, late={})


async def test_what_is_late_for_a_moment_or_because_the_pool_rests_is_not_told(
    store: Store,
) -> None:
    await record_alert(store, Alert("run_late", "health-sweep", "r1"))
    assert await incidents(store) == {}
    await age(store, minutes=6)
    assert await incidents(store) == {"run_late": "open"}
    await settle_states(store, {"r1": "Running"})
    assert await incidents(store) == {"run_late": "resolved"}

    await record_alert(store, Alert("pool_not_ready", "linekeeper"))
    await record_alert(store, Alert("run_late", "digest", "r2"))
    await age(store, minutes=6)
    assert await incidents(store) == {"run_late": "resolved", "pool_not_ready": "open"}
    await settle_states(store, {"r2": "Running"})
    assert set((await incidents(store)).values()) == {"resolved"}


async def test_what_is_reported_while_prefect_is_asked_is_not_over(store: Store) -> None:
    for kind in ("run_late", "run_failed"):
        await record_alert(store, Alert(kind, "health-sweep", "r1"))
    await age(store, minutes=6)
    asked = await reported(store)
    for kind in ("run_late", "run_failed"):
        await record_alert(store, Alert(kind, "health-sweep", "r2"))
    finished = {"health-sweep": RunOutcome("between", completed=True)}
    await settle_reported(
        store, asked, states={"r1": "Completed"}, finished=finished, pool_ready=True, late={}
    )
    assert await incidents(store) == {"run_late": "open", "run_failed": "open"}


async def test_a_failure_that_nobody_ran_again_is_not_called_mended(store: Store) -> None:
    async def a_day_later() -> list[str]:
        await age(store, minutes=25 * 60)
        await settle_states(store, {"r3": "Late"})
        async with store.read() as session:
            ended = select(IncidentEntry).where(col(IncidentEntry.kind) == "resolved")
            return [each.text for each in await session.scalars(ended)]

    await record_alert(store, Alert("run_failed", "digest", "r1"))
    await record_alert(store, Alert("run_late", "reconcile", "r3"))
    await age(store, minutes=25 * 60)
    await record_alert(store, Alert("run_failed", "digest", "r2"))  # it goes on
    await settle_states(store, {"r3": "Late"})
    assert await incidents(store) == {"run_failed": "open", "run_late": "open"}
    [said] = await a_day_later()
    assert said.startswith("No run of it has ended since")
    assert await incidents(store) == {"run_failed": "resolved", "run_late": "open"}


async def test_all_that_one_thing_holds_up_is_one_incident_that_names_it(store: Store) -> None:
    await record_alert(store, Alert("run_late", "health-sweep", "r1"))
    await record_alert(store, Alert("run_late", "reconcile", "r2"))
    states = {"r1": "Late", "r2": "Scheduled"}

    async def held_up_by(reason: str) -> list[tuple[str, str]]:
        late = dict.fromkeys(states, reason)
        await settle_reported(
            store, await reported(store), states=states, finished={}, pool_ready=True, late=late
        )
        opened = select(Incident).where(col(Incident.resolved_at).is_(None))
        async with store.read() as session:
            return [(each.title, each.summary) for each in await session.scalars(opened)]

    assert await held_up_by("the pool linekeeper is paused") == []
    await age(store, minutes=6)
    [(title, text)] = await held_up_by("the pool linekeeper is paused")
    assert title.endswith("UTC: the pool linekeeper is paused")
    assert "health-sweep, reconcile" in text
    await record_alert(store, Alert("run_late", "reconcile", "r2"))  # each late run is reported
    assert await held_up_by("the pool linekeeper is paused") == [(title, text)]
    async with store.read() as session:
        assert len((await session.scalars(select(Incident))).all()) == 1
    assert await held_up_by("no worker took them") == []  # it catches up
    await age(store, minutes=6)
    [(title, _)] = await held_up_by("no worker took them")
    assert title.endswith("UTC: no worker took them")
    states.pop("r1")
    [(_, text)] = await held_up_by("no worker took them")
    assert "reconcile" in text
    assert "health-sweep" not in text


async def test_late_runs_whose_reason_is_found_out_later_stay_one_incident(store: Store) -> None:
    """The consumer, which asks Prefect what holds them up, was away."""
    await record_alert(store, Alert("run_late", "health-sweep", "r1"))
    await record_alert(store, Alert("run_late", "reconcile", "r2"))
    await age(store, minutes=6)
    assert await incidents(store) == {"run_late": "open"}
    late = dict.fromkeys(("r1", "r2"), "no worker took them")
    states = dict.fromkeys(late, "Late")
    await settle_reported(
        store, await reported(store), states=states, finished={}, pool_ready=True, late=late
    )
    async with store.read() as session:
        [incident] = await session.scalars(select(Incident))
    assert (incident.status, incident.resolved_at) == ("open", None)
    assert str(incident.title).endswith("UTC: no worker took them")


async def test_the_message_leads_to_the_run_that_failed_last_and_says_why_without_the_sql(
    store: Store,
) -> None:
    links = Links(ui_url="http://prefect")
    for run in ("first", "second"):
        why = "DBAPIError: statement timeout\n[SQL: SELECT x\nFROM customer]"
        await record_alert(store, Alert("run_failed", "digest", run, "a name", why))
        async with store.read() as session:
            ids = list(await session.scalars(select(col(Incident.id))))
            [*_, said] = await session.scalars(select(col(IncidentEntry.text)))
        assert "what it found (DBAPIError: statement timeout)." in said
        [view] = (await load_views(store, ids)).values()
        message = plain(view, now=view.opened_at, links=links)
        assert f"http://prefect/runs/flow-run/{run}" in message


async def test_a_crash_is_over_when_another_run_did_its_work_though_it_is_red(
    store: Store,
) -> None:
    await record_alert(store, Alert("run_crashed", "health-sweep", "r1"))
    await age(store, minutes=2)

    async def settle(run: str) -> None:
        finished = {"health-sweep": RunOutcome(run, completed=False)}
        await settle_reported(
            store, await reported(store), states={}, finished=finished, pool_ready=True, late={}
        )

    await settle("r1")
    await settle("r2")
    assert await incidents(store) == {"run_crashed": "open"}
    await note_ended(store, "r2")
    await settle("r2")
    assert await incidents(store) == {"run_crashed": "resolved"}


@on_both
@pytest.mark.usefixtures("few")
async def test_a_run_that_somebody_cancelled_is_no_crash(
    clean_prefect: PrefectServer, settings: Settings, store: Store
) -> None:
    """Prefect calls it crashed when its process ends, and cancelled once its worker has seen it."""
    settings = settings.model_copy(
        update={"prefect_port": clean_prefect.port, "makini_api_url": "http://127.0.0.1:9"}
    )
    async with (
        PrefectClient(clean_prefect.api_url) as client,
        PrefectOrchestrator.open(settings) as orchestrator,
    ):
        await deploy_quietly(settings)
        found = await client.read_deployment_by_name("digest/digest")

        async def ended(*states: State) -> str:
            run = await client.create_flow_run_from_deployment(found.id)
            for state in states:
                await client.set_flow_run_state(run.id, state, force=True)  # type: ignore[arg-type]
            return str(run.id)

        async def settle() -> None:
            alerts = await reported(store)
            sight = await orchestrator.look(alerts)
            await settle_reported(
                store,
                alerts,
                states=sight.runs,
                finished=sight.finished,
                pool_ready=sight.pool_ready,
                late=sight.late,
            )

        await ended(Completed())
        crashed = await ended(Crashed())
        await record_alert(store, Alert("run_crashed", "digest", crashed))
        assert await incidents(store) == {}
        await age(store, minutes=2)
        await settle()  # what did its work before is no cure
        assert await incidents(store) == {"run_crashed": "open"}
        await client.set_flow_run_state(crashed, Cancelled(), force=True)  # type: ignore[arg-type]
        await settle()
        assert await incidents(store) == {"run_crashed": "resolved"}
        again = await ended(Crashed(), Cancelled())
        await record_alert(store, Alert("run_crashed", "digest", again))
        await settle()
        assert await reported(store) == []
