"""Artifacts of the fleet and of connections in trouble."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from prefect import get_client, task
from prefect.artifacts import MarkdownArtifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact as Stored
from prefect.exceptions import ObjectNotFound

from linekeeper.clock import utcnow
from linekeeper.health.report import (
    ReportLinks,
    artifact_key,
    connection_headline,
    connection_markdown,
    fleet_headline,
    fleet_markdown,
)
from linekeeper.health.report_queries import connection_reports, fleet_report
from linekeeper.status.audit import (
    MARKDOWN_ROWS,
    audit_headline,
    audit_markdown,
    hand_outs,
    read_audit,
)
from tasks.run import runtime

FLEET = "fleet"
AUDIT = "audit"
FRESH = timedelta(hours=1)
"""An artifact is written when something changed, else no more often than this."""


@task(name="report-fleet", task_run_name="artifacts fleet, audit", retries=2, cache_policy=NO_CACHE)
async def report_fleet(notes: Mapping[str, str]) -> None:
    """Write the artifacts `fleet` and `audit`; `notes` by app is what the sweep has to say."""
    rt = runtime()
    report = await fleet_report(rt.store, await rt.configuration(), now=utcnow(), notes=notes)
    async with get_client() as client:
        keys = [artifact_key(one.slug) for one in report.troubles]
        links = await _links(client, keys)
        await put_artifact(
            client, FLEET, fleet_markdown(report, links), description=fleet_headline(report)
        )
        await _report_audit(client)


async def _report_audit(client: PrefectClient) -> None:
    rt, now = runtime(), utcnow()
    entries = await read_audit(rt.store, limit=MARKDOWN_ROWS)
    taken = await hand_outs(rt.store, since=now - timedelta(days=1))
    await put_artifact(
        client,
        AUDIT,
        audit_markdown(entries, taken, now=now),
        description=audit_headline(entries, now),
    )


@task(
    name="report-connections",
    task_run_name="artifacts of connections",
    retries=2,
    cache_policy=NO_CACHE,
)
async def report_connections(ids: Sequence[str]) -> None:
    """Write `connection-<slug>` for each of `ids`."""
    rt = runtime()
    reports = await connection_reports(rt.store, await rt.configuration(), ids, now=utcnow())
    async with get_client() as client:
        links = await _links(client, [FLEET])
        for report in reports:
            await put_artifact(
                client,
                artifact_key(report.connection.slug),
                connection_markdown(report, links),
                description=connection_headline(report),
            )


async def put_artifact(client: PrefectClient, key: str, markdown: str, *, description: str) -> None:
    """Write the artifact `key`: the one there is, so that its page and its links stay the same."""
    known = (await _stored(client, [key])).get(key)
    if known is None:
        await MarkdownArtifact(key=key, description=description, markdown=markdown).acreate()
        return
    await client.update_artifact(known.id, ArtifactUpdate(data=markdown, description=description))


async def is_stale(key: str) -> bool:
    """Whether the artifact `key` is missing or older than `FRESH`."""
    async with get_client() as client:
        known = (await _stored(client, [key])).get(key)
    return known is None or known.updated is None or utcnow() - known.updated > FRESH


async def _stored(client: PrefectClient, keys: Sequence[str]) -> dict[str, Stored]:
    """The newest artifact of each of `keys` that has one."""
    found: dict[str, Stored] = {}
    for start in range(0, len(keys), 100):
        some = list(keys[start : start + 100])
        artifacts = await client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=some)), limit=200
        )
        for one in artifacts:
            assert one.key is not None  # it was found by its key
            if one.key not in found or one.created > found[one.key].created:  # type: ignore[operator]  # set by the server
                found[one.key] = one
    return found


async def _links(client: PrefectClient, keys: Sequence[str]) -> ReportLinks:
    ids = {key: str(one.id) for key, one in (await _stored(client, keys)).items()}
    try:
        check = await client.read_deployment_by_name("check-connection/check-connection")
    except ObjectNotFound:
        return ReportLinks(artifact_ids=ids)
    return ReportLinks(check_deployment_id=str(check.id), artifact_ids=ids)
