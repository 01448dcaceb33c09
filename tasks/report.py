"""Artifacts of the fleet and of connections in trouble."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from prefect import get_client, task
from prefect.artifacts import Artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.exceptions import ObjectNotFound

from linekeeper.clock import utcnow
from linekeeper.health.report import (
    ReportLinks,
    artifact_key,
    connection_markdown,
    fleet_markdown,
)
from linekeeper.health.report_queries import connection_reports, fleet_report
from tasks.run import runtime

FLEET = "fleet"
FRESH = timedelta(hours=1)
"""An artifact is written when something changed, else no more often than this."""


@task(name="report-fleet", task_run_name="artifact fleet", retries=2, cache_policy=NO_CACHE)
async def report_fleet(notes: Mapping[str, str]) -> None:
    """Write the artifact `fleet`; `notes` by app is what the sweep has to say about it."""
    rt = runtime()
    report = await fleet_report(rt.store, await rt.configuration(), now=utcnow(), notes=notes)
    await Artifact(
        key=FLEET,
        type="markdown",
        description="Every connection's health, and who needs attention",
        data=fleet_markdown(report, await _links()),
    ).acreate()


@task(
    name="report-connections",
    task_run_name="artifacts of connections",
    retries=2,
    cache_policy=NO_CACHE,
)
async def report_connections(ids: Sequence[str]) -> None:
    """Write `connection-<slug>` for each of `ids`."""
    rt = runtime()
    links = await _links()
    reports = await connection_reports(rt.store, await rt.configuration(), ids, now=utcnow())
    for report in reports:
        await Artifact(
            key=artifact_key(report.connection.slug),
            type="markdown",
            description=report.label,
            data=connection_markdown(report, links),
        ).acreate()


async def is_fleet_stale() -> bool:
    """Whether the artifact `fleet` is missing or older than `FRESH`."""
    async with get_client() as client:
        found = await client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[FLEET])), limit=1
        )
    newest = found[0].created if found else None
    return newest is None or utcnow() - newest > FRESH


async def _links() -> ReportLinks:
    async with get_client() as client:
        try:
            check = await client.read_deployment_by_name("check-connection/check-connection")
        except ObjectNotFound:
            return ReportLinks()
    return ReportLinks(check_deployment_id=str(check.id))
