"""The doctor says what holds up runs that are late, as a real Prefect shows it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import State
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.states import Pending, Scheduled

from linekeeper.clock import utcnow
from linekeeper.doctor.finding import DoctorFinding
from linekeeper.settings import Settings
from linekeeper.watch.alerts import Alert
from tasks.prefect_adapter.examination import NAME, examine_prefect
from tasks.prefect_adapter.sight import look
from tests.databases import KEY
from tests.fixtures_prefect import PrefectServer

PREFLIGHT = "preflight/preflight"


class Site:
    """Linekeeper's deployments on a server, with no worker unless one says that it is there."""

    def __init__(self, settings: Settings, client: PrefectClient) -> None:
        self.settings = settings
        self.client = client

    async def late(self, deployment: str = PREFLIGHT) -> str:
        """A run whose time was ten minutes ago."""
        found = await self.client.read_deployment_by_name(deployment)
        state: State[None] = Scheduled(scheduled_time=utcnow() - timedelta(minutes=10))
        return str((await self.client.create_flow_run_from_deployment(found.id, state=state)).id)

    async def worker(self) -> None:
        """A worker that polls, and takes nothing."""
        await self.client.send_worker_heartbeat(
            "linekeeper", "worker-1", heartbeat_interval_seconds=600
        )

    async def findings(self) -> list[DoctorFinding]:
        return await examine_prefect(self.settings, seconds=60)

    async def said(self) -> str:
        """What the doctor says of late runs."""
        [finding] = [each for each in await self.findings() if each.name == NAME]
        return finding.text


@pytest.fixture
async def site(clean_prefect: PrefectServer, tmp_path: Path) -> AsyncIterator[Site]:
    settings = Settings(
        home=tmp_path,
        encryption_keys=(KEY,),
        prefect_port=clean_prefect.port,
        makini_api_url="http://127.0.0.1:9",
    )
    async with PrefectClient(clean_prefect.api_url) as client:
        await client.create_work_pool(WorkPoolCreate(name="linekeeper", type="process"))
        await client.create_work_queue("routine", work_pool_name="linekeeper")
        await client.create_deployment(
            await client.create_flow_from_name("preflight"),
            "preflight",
            work_pool_name="linekeeper",
            work_queue_name="routine",
        )
        yield Site(settings, client)


async def test_each_cause_of_a_late_run_is_named(site: Site) -> None:
    client = site.client
    assert await site.said() == "none"
    alerts = [Alert("run_late", "preflight", run := await site.late())]
    assert await site.said() == "no worker is online: preflight"
    assert (await look(client, alerts)).late == {run: "no worker is online"}
    await site.worker()
    assert await site.said() == "no worker took them, and none is busy: preflight"
    assert (await look(client, alerts)).late == {run: "no worker took them, and none is busy"}

    found = await client.read_deployment_by_name(PREFLIGHT)
    [queue] = [row for row in await client.read_work_queues("linekeeper") if row.name == "routine"]
    running = await client.create_flow_run_from_deployment(found.id)
    await client.set_flow_run_state(running.id, Pending(), force=True)
    busy = "the workers are busy with other runs"
    assert await site.said() == f"{busy} (1 under way): preflight"
    assert (await look(client, alerts)).late == {run: busy}

    await client.update_work_pool("linekeeper", WorkPoolUpdate(concurrency_limit=1))
    full = "has reached its concurrency limit (1 of 1 under way): preflight"
    assert await site.said() == f"the pool linekeeper {full}"
    held_up = {run: "the pool linekeeper has reached its concurrency limit"}
    assert (await look(client, alerts)).late == held_up
    await client.update_work_queue(queue.id, concurrency_limit=1)
    assert await site.said() == f"the queue routine {full}"
    await client.update_deployment(found.id, DeploymentUpdate(concurrency_limit=1))
    await client.increment_concurrency_slots([f"deployment:{found.id}"], 1, "concurrency")
    assert await site.said() == f"the deployment preflight {full}"

    await client.update_work_pool("linekeeper", WorkPoolUpdate(is_paused=True))
    assert await site.said() == "the pool linekeeper is paused: preflight"
    await client.update_work_queue(queue.id, is_paused=True)
    assert await site.said() == "the queue routine is paused: preflight"
    assert (await look(client, alerts)).late == {run: "the queue routine is paused"}
    await client.update_deployment(found.id, DeploymentUpdate(paused=True))
    assert await site.said() == "the deployment preflight is paused: preflight"
    paused = [finding.text for finding in await site.findings() if "resume them" in finding.fix]
    assert paused == ["paused, so that no run of theirs is scheduled: preflight"]


async def test_a_schedule_that_is_switched_off_on_its_page_is_named(site: Site) -> None:
    found = await site.client.read_deployment_by_name(PREFLIGHT)
    off = "switch them on again"
    daily = DeploymentScheduleCreate(
        schedule=IntervalSchedule(interval=timedelta(days=1)), active=True, slug="daily"
    )
    [schedule] = await site.client.create_deployment_schedules(found.id, [daily])
    assert not any("preflight" in each.text for each in await site.findings() if off in each.fix)
    await site.client.update_deployment_schedule(found.id, schedule.id, active=False)
    [named] = [each.text for each in await site.findings() if off in each.fix]
    assert "preflight (daily)" in named
