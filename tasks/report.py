"""Artifacts of the fleet and of connections in trouble."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from uuid import UUID

from prefect import get_client, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact as Stored
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from linekeeper.clock import utcnow
from linekeeper.notify.places import artifact_ids, remember_artifact
from linekeeper.store.leases import holding
from linekeeper.views.audit import (
    MARKDOWN_ROWS,
    audit_headline,
    audit_markdown,
    hand_outs,
    read_audit,
)
from linekeeper.views.connection_page import connection_headline, connection_markdown
from linekeeper.views.fleet_page import fleet_headline, fleet_markdown
from linekeeper.views.fleet_queries import connection_reports, fleet_report
from linekeeper.views.parts import ReportLinks, artifact_key
from tasks.run import runtime

FLEET = "fleet"
AUDIT = "audit"
FRESH = timedelta(hours=1)
"""An artifact is written when something changed, else no more often than this."""


@task(name="report-fleet", task_run_name="update fleet page", retries=2, cache_policy=NO_CACHE)
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
    task_run_name="update connection pages",
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
    """Write the artifact `key`: the one there is, so that its page and its links stay the same.

    It belongs to no run: Prefect would remove it with the run that wrote it first.
    """
    rt = runtime()
    shown = ArtifactUpdate(data=markdown, description=description)
    if await _updated(client, (await artifact_ids(rt.store, [key])).get(key), shown):
        return
    async with holding(rt.store, "artifacts", rt.owner, wait=True):
        known = await _newest(client, key)
        if known is None:
            new = ArtifactCreate(key=key, type="markdown", data=markdown, description=description)
            known = await client.create_artifact(new)
        else:
            await client.update_artifact(known.id, shown)
        await remember_artifact(rt.store, key, str(known.id), now=utcnow())


async def _updated(client: PrefectClient, identifier: str | None, shown: ArtifactUpdate) -> bool:
    """Whether the artifact is there, and shows it now; a new Prefect doesn't have it."""
    if identifier is None:
        return False
    try:
        await client.update_artifact(UUID(identifier), shown)
    except PrefectHTTPStatusError as error:
        if error.response.status_code == HTTPStatus.NOT_FOUND:
            return False
        raise
    return True


async def is_stale(key: str) -> bool:
    """Whether the artifact `key` is missing or older than `FRESH`."""
    async with get_client() as client:
        known = await _newest(client, key)
    return known is None or known.updated is None or utcnow() - known.updated > FRESH


async def _newest(client: PrefectClient, key: str) -> Stored | None:
    """The artifact of that key."""
    found = await client.read_artifacts(
        artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])), limit=200
    )
    return max(found, key=lambda one: (one.created, one.id), default=None)


async def _links(client: PrefectClient, keys: Sequence[str]) -> ReportLinks:
    ids = await artifact_ids(runtime().store, keys)
    try:
        check = await client.read_deployment_by_name("check-connection/check-connection")
    except ObjectNotFound:
        return ReportLinks(artifact_ids=ids)
    return ReportLinks(check_deployment_id=str(check.id), artifact_ids=ids)
