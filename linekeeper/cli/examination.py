"""Everything the doctor looks at, Prefect and its blocks included."""

import asyncio
from collections.abc import Sequence

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from linekeeper.cli.doctor_late import examine_late, paused_deployments
from linekeeper.cli.errors import UserError
from linekeeper.cli.names import deployment_name, every, flow_of
from linekeeper.cli.orchestrator import PrefectOrchestrator
from linekeeper.cli.project import wanted_deployments
from linekeeper.cli.server import prefect_at, work_pool
from linekeeper.consumer.settings import BrokenBlocks
from linekeeper.doctor import Level, examine, examine_database, worst
from linekeeper.doctor.finding import Finding, named, ok, warn, wrong
from linekeeper.orchestrator import OrchestratorUnavailable
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings


async def examine_blocks(settings: Settings, *, seconds: float) -> Sequence[Finding]:
    """What is to be said about the blocks; nothing where Prefect is away: others say so."""
    try:
        async with asyncio.timeout(seconds), PrefectOrchestrator.open(settings) as orchestrator:
            blocks = await orchestrator.read_blocks()
    except BrokenBlocks as error:
        mend = "correct it in the Prefect UI; until then its last good copy counts"
        return [wrong(f"block {name}", text, mend) for name, text in error.problems.items()]
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


async def examine_prefect(settings: Settings, *, seconds: float) -> list[Finding]:
    """What is to be said about the Prefect that `settings` lead to."""
    try:
        wanted = {deployment.name for deployment in await wanted_deployments()}
    except UserError as error:
        return [wrong("prefect · deployments", str(error), "run it in a checkout of the project")]
    with prefect_at(settings) as url:
        client = get_client()
    try:
        async with asyncio.timeout(seconds), client:
            version = await client.api_version()
            names = sorted(deployment_name(flow) for flow in wanted)
            ours = DeploymentFilter(name=DeploymentFilterName(any_=names))
            deployments = await every(client.read_deployments, deployment_filter=ours)
            return [
                ok("prefect", f"{url} answers, version {version}"),
                *await _pool(client, url, deployments),
                _deployments(deployments, wanted),
                *paused_deployments(deployments),
            ]
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
        mend = "set PREFECT_API_AUTH_STRING (or PREFECT_API_KEY)" if status == 401 else _START
        return [wrong("prefect", f"{url} answers {status}", mend)]
    except (TimeoutError, httpx.HTTPError, OSError, RuntimeError) as error:
        reason = f"within {seconds:g} s" if isinstance(error, TimeoutError) else f"({error})"
        return [wrong("prefect", f"{url} does not answer {reason}", _START)]


def _deployments(deployments: Sequence[DeploymentResponse], wanted: set[str]) -> Finding:
    name = "prefect · deployments"
    found = {flow_of(deployment.name) for deployment in deployments}
    if missing := sorted(wanted - found):
        return wrong(name, f"missing: {named(missing)}", _DEPLOY)
    return ok(name, f"all {len(wanted)} are there")


async def _pool(
    client: PrefectClient, url: str, deployments: Sequence[DeploymentResponse]
) -> list[Finding]:
    """The pool and its workers, and what holds up runs that are late."""
    name = f"prefect · pool {work_pool()}"
    try:
        pool = await client.read_work_pool(work_pool())
        workers = await every(client.read_workers_for_work_pool, work_pool_name=work_pool())
    except ObjectNotFound:
        return [wrong(name, "it does not exist", _DEPLOY)]
    online = [worker.name for worker in workers if str(worker.status).upper().endswith("ONLINE")]
    if pool.is_paused:
        finding = warn(name, "it is paused: no run starts", "resume it in the Prefect UI")
    elif not online:
        start = f"PREFECT_API_URL={url} prefect worker start --pool {work_pool()}"
        finding = wrong(name, "no worker is online", f"run `linekeeper up`, or `{start}`")
    else:
        finding = ok(name, f"{len(online)} worker(s) online")
    return [finding, *await examine_late(client, pool, deployments, workers=len(online))]


async def examine_everything(settings: Settings, *, seconds: float) -> list[Finding]:
    """Database, keys, apps, Slack, fleet, Prefect and the blocks; each may take `seconds`."""

    async def prefect() -> Sequence[Finding]:
        return await examine_prefect(settings, seconds=seconds)

    async def blocks() -> Sequence[Finding]:
        return await examine_blocks(settings, seconds=seconds)

    findings = await examine_database(settings, seconds=seconds)
    if worst(findings) is Level.wrong:
        return [*findings, *await prefect()]
    async with Runtime.open(settings) as rt:
        return [*findings, *await examine(rt, others=[prefect, blocks], seconds=seconds)]
