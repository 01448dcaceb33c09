"""Where in the Prefect UI things are: for links in messages, tables, and in Artifacts tabs."""

from contextlib import suppress
from dataclasses import replace
from uuid import UUID

from prefect.artifacts import LinkArtifact
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    DeploymentFilter,
    DeploymentFilterTags,
)
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_UI_URL

from linekeeper.markdown import linked_text
from linekeeper.notify.view import FROM_A_PAGE, Links
from tasks.prefect_adapter.current import current_run
from tasks.prefect_adapter.names import every, flow_of, full_name, tag


def ui_url(client: PrefectClient) -> str:
    """The UI's address."""
    return PREFECT_UI_URL.value() or str(client.api_url).rstrip("/").removesuffix("/api")


async def find_links(client: PrefectClient, *, run_id: str | None = None) -> Links:
    """The UI's address and our deployments; `run_id` is the run that reports something.

    A run asks for the deployments once. Errors of Prefect's client pass through.
    """
    run = _this_run()
    if run is None:
        deployments = await _deployments(client)
    else:
        if _run_knows.get(run) is None:
            _run_knows[run] = await _deployments(client)
        deployments = _run_knows[run]
    return Links(ui_url=ui_url(client), deployments=deployments, run_id=run_id)


async def links_from_a_page(client: PrefectClient) -> Links:
    """Links that lead right from an artifact's page."""
    return replace(await find_links(client), ui_url=FROM_A_PAGE)


async def forms_from_a_page(client: PrefectClient, *flows: str) -> Links:
    """The same, to the forms of those of `flows` that are deployed.

    Outside a run these alone are asked for: all of them are much to read every few seconds.
    """
    if _this_run() is not None:
        known = (await find_links(client)).deployments
        return Links(FROM_A_PAGE, {flow: known[flow] for flow in flows if flow in known})
    ids: dict[str, str] = {}
    for flow in flows:
        with suppress(ObjectNotFound):
            ids[flow] = str((await client.read_deployment_by_name(full_name(flow))).id)
    return Links(FROM_A_PAGE, ids)


async def _deployments(client: PrefectClient) -> dict[str, str]:
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[tag()]))
    deployments = await every(client.read_deployments, deployment_filter=ours)
    return {flow_of(deployment.name): str(deployment.id) for deployment in deployments}


def _this_run() -> tuple[UUID, int] | None:
    """The run we are in, and how often it has begun: one that goes on later asks anew."""
    run = current_run()
    return None if run is None else (run.id, _times_begun(run))


def _times_begun(run: FlowRun) -> int:
    """Prefect itself does not count that a run goes on after it was suspended."""
    return run.run_count + len(run.empirical_policy.pause_keys or ())


_run_knows: dict[tuple[UUID, int], dict[str, str]] = {}
"""The deployments, as the runs that this process works on found them."""
_listed: dict[UUID, set[str]] = {}
"""The keys of what is listed in the runs that this process works on."""


async def list_in_run(
    client: PrefectClient, key: str, artifact_id: str, *, description: str
) -> None:
    """Link the artifact `key` from this run, once: pages outlive the runs that write them."""
    if (run := current_run()) is None:
        return
    run_id = run.id
    if run_id not in _listed:
        has_begun_before = _times_begun(run) > 1
        _listed[run_id] = await _listed_before(client, run_id) if has_begun_before else set()
    if key in _listed[run_id]:
        return
    _listed[run_id].add(key)
    url = Links(ui_url=ui_url(client), artifact_ids={key: artifact_id}).artifact(key)
    await LinkArtifact(link=url or "", link_text=key, description=description).acreate(client)


async def _listed_before(client: PrefectClient, run_id: UUID) -> set[str]:
    """What the run listed before it was suspended."""
    ours = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    artifacts = await every(client.read_artifacts, artifact_filter=ours)
    return {linked_text(str(artifact.data)) for artifact in artifacts}
