"""Everything the doctor looks at, Prefect and its blocks included."""

import asyncio
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta

import httpx
from dotenv import dotenv_values
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL

from linekeeper.clock import utcnow
from linekeeper.consumer.settings import BrokenBlocks
from linekeeper.doctor import Level, examine, examine_database, worst
from linekeeper.doctor.environment import examine_environment
from linekeeper.doctor.finding import DoctorFinding, ok, warn, wrong
from linekeeper.orchestrator import OrchestratorUnavailable
from linekeeper.refusal import UserError
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.text import counted, named
from tasks.prefect_adapter.deployed import slug_of
from tasks.prefect_adapter.hold_up import (
    HoldUp,
    hold_up,
    online_of,
    queues_of,
    route_of,
    under_way_in,
)
from tasks.prefect_adapter.names import deployment_name, every, flow_of
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tasks.prefect_adapter.project import wanted_deployments
from tasks.prefect_adapter.server import prefect_at, work_pool

LATE_AFTER = timedelta(minutes=1)
"""A worker that polls takes a run well before."""
NAME = "prefect · late runs"
API = "prefect · API"
"""Not the part *prefect*, which says what the consumer hears of it."""
_MOST = 200


async def examine_late(
    client: PrefectClient,
    pool: WorkPool,
    deployments: Sequence[DeploymentResponse],
    *,
    workers: int,
) -> list[DoctorFinding]:
    """One finding for each cause, with the deployments whose runs it holds up."""
    runs = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(
                before_=utcnow() - LATE_AFTER
            ),
        ),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool.name])),
        limit=_MOST,
    )
    if not runs:
        return [ok(NAME, "none")]
    queues, under_way = await queues_of(client, pool), await under_way_in(client, pool)
    by_id = {deployment.id: deployment for deployment in deployments}
    late: dict[HoldUp, Counter[str]] = {}
    for run in runs:
        deployment = by_id.get(run.deployment_id) if run.deployment_id else None
        route = route_of(pool, queues, run.work_queue_name, deployment)
        held_up = late.setdefault(hold_up(route, workers=workers, under_way=under_way), Counter())
        held_up[deployment.name if deployment else run.name] += 1
    return [
        wrong(NAME, f"{why.reason}{why.figures}: {named(_counted(held_up))}", why.remedy)
        for why, held_up in late.items()
    ]


def paused_deployments(deployments: Sequence[DeploymentResponse]) -> list[DoctorFinding]:
    """Those that an operator paused, or a schedule of them: no run of theirs is scheduled.

    The switch on a deployment's page is that of the schedule, and leaves the deployment as it is.
    """
    paused = sorted(deployment.name for deployment in deployments if deployment.paused)
    schedules = sorted(
        f"{deployment.name} ({slug_of(schedule)})"
        for deployment in deployments
        for schedule in deployment.schedules
        if not schedule.active and not deployment.paused
    )
    findings = []
    if paused:
        text = f"paused, so that no run of theirs is scheduled: {named(paused)}"
        findings.append(warn("prefect · deployments", text, "resume them in the Prefect UI"))
    if schedules:
        text = f"schedules that are paused: {named(schedules)}"
        fix = "switch them on again on the deployment's page"
        findings.append(warn("prefect · schedules", text, fix))
    return findings


def _counted(held_up: Mapping[str, int]) -> list[str]:
    return [name if number == 1 else f"{name} (×{number})" for name, number in held_up.items()]


async def examine_blocks(settings: Settings, *, seconds: float) -> Sequence[DoctorFinding]:
    """What is to be said about the blocks; nothing where Prefect is away: others say so."""
    try:
        async with asyncio.timeout(seconds), PrefectOrchestrator.open(settings) as orchestrator:
            blocks = await orchestrator.read_blocks()
    except BrokenBlocks as error:
        fix = "correct it in the Prefect UI; until then its last good copy counts"
        return [wrong(f"block {name}", text, fix) for name, text in error.problems.items()]
    except (OrchestratorUnavailable, TimeoutError):
        return []
    names = [f"app {app.name}" for app in blocks.apps]
    names += [
        name
        for name, block in (
            ("Slack", blocks.slack),
            ("policy", blocks.policy),
            ("alerts", blocks.alerts),
            ("mail", blocks.mail),
        )
        if block is not None
    ]
    names += [f"Slack channel {name}" for name in sorted(blocks.slack_channels)]
    return [ok("blocks", ", ".join(names) or "none is filled in: the settings count")]


_DEPLOY = "run `linekeeper deploy`"
_START = "start it (`linekeeper up`), or set PREFECT_API_URL to the one that runs"
_THAT = "start that server again, or set PREFECT_API_URL to the one that runs"


async def examine_prefect(settings: Settings, *, seconds: float) -> list[DoctorFinding]:
    """What is to be said about the Prefect that `settings` lead to."""
    try:
        wanted = {deployment.name for deployment in await wanted_deployments()}
    except UserError as error:
        return [wrong("prefect · deployments", str(error), "run it in a checkout of the project")]
    start = _THAT if PREFECT_API_URL.value() else _START  # `up` starts none beside another's
    with prefect_at(settings) as url:
        client = get_client()
    try:
        async with asyncio.timeout(seconds), client:
            version = await client.api_version()
            names = sorted(deployment_name(flow) for flow in wanted)
            ours = DeploymentFilter(name=DeploymentFilterName(any_=names))
            deployments = await every(client.read_deployments, deployment_filter=ours)
            return [
                ok(API, f"{url} answers, version {version}"),
                *await _pool(client, url, deployments),
                _deployments(deployments, wanted),
                *paused_deployments(deployments),
            ]
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
        fix = _credentials() if status in (401, 403) else start
        return [wrong(API, f"{url} answers {status}", fix)]
    except (TimeoutError, httpx.HTTPError, OSError, RuntimeError) as error:
        reason = f"within {seconds:g} s" if isinstance(error, TimeoutError) else f"({error})"
        return [wrong(API, f"{url} does not answer {reason}", start)]


def _credentials() -> str:
    """What to do where Prefect refuses access."""
    given = {
        "PREFECT_API_AUTH_STRING": PREFECT_API_AUTH_STRING.value(),
        "PREFECT_API_KEY": PREFECT_API_KEY.value(),
    }
    if has := [name for name, value in given.items() if value is not None]:
        return f"it refuses the {' and the '.join(has)} that is set here: correct it"
    return "set PREFECT_API_AUTH_STRING (or PREFECT_API_KEY)"


def _deployments(deployments: Sequence[DeploymentResponse], wanted: set[str]) -> DoctorFinding:
    name = "prefect · deployments"
    flows = {flow_of(deployment.name) for deployment in deployments}
    if missing := sorted(wanted - flows):
        return wrong(name, f"missing: {named(missing)}", _DEPLOY)
    return ok(name, f"all {len(wanted)} are there")


async def _pool(
    client: PrefectClient, url: str, deployments: Sequence[DeploymentResponse]
) -> list[DoctorFinding]:
    """The pool and its workers, and what holds up runs that are late."""
    name = f"prefect · pool {work_pool()}"
    try:
        pool = await client.read_work_pool(work_pool())
        workers = await every(client.read_workers_for_work_pool, work_pool_name=work_pool())
    except ObjectNotFound:
        return [wrong(name, "it does not exist", _DEPLOY)]
    online = online_of(workers)
    if pool.is_paused:
        finding = warn(name, "it is paused: no run starts", "resume it in the Prefect UI")
    elif not online:
        start = f"PREFECT_API_URL={url} prefect worker start --pool {work_pool()}"
        finding = wrong(name, "no worker is online", f"run `linekeeper up`, or `{start}`")
    else:
        finding = ok(name, f"{counted(len(online), 'worker')} online")
    return [finding, *await examine_late(client, pool, deployments, workers=len(online))]


async def examine_everything(
    settings: Settings, *, seconds: float, environment: bool = True
) -> list[DoctorFinding]:
    """Everything from the `environment` to the blocks; each peer may take `seconds`."""

    async def prefect() -> Sequence[DoctorFinding]:
        return await examine_prefect(settings, seconds=seconds)

    async def blocks() -> Sequence[DoctorFinding]:
        return await examine_blocks(settings, seconds=seconds)

    findings: list[DoctorFinding] = []
    if environment:
        in_file = dict.fromkeys(dotenv_values(".env"), "")
        findings += examine_environment(in_file | dict(os.environ))
    findings += await examine_database(settings, seconds=seconds)
    if worst(findings) is Level.wrong:
        return [*findings, *await prefect()]
    async with Runtime.open(settings) as rt:
        return [*findings, *await examine(rt, others=[prefect, blocks], seconds=seconds)]
