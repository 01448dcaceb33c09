"""Where in the Prefect UI things are: for links in messages, tables, and in Artifacts tabs."""

from uuid import UUID

from prefect.artifacts import LinkArtifact
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    DeploymentFilter,
    DeploymentFilterTags,
)
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_UI_URL

from linekeeper.markdown import linked_text
from linekeeper.notify.view import Links
from tasks.prefect_adapter.names import every, flow_of, tag


def ui_url(client: PrefectClient) -> str:
    """The UI's address."""
    return PREFECT_UI_URL.value() or str(client.api_url).rstrip("/").removesuffix("/api")


async def find_links(client: PrefectClient, *, run_id: str | None = None) -> Links:
    """The UI's address and our deployments; `run_id` is the run that reports something.

    Errors of Prefect's client pass through.
    """
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[tag()]))
    deployments = await every(client.read_deployments, deployment_filter=ours)
    return Links(
        ui_url=ui_url(client),
        deployments={flow_of(deployment.name): str(deployment.id) for deployment in deployments},
        run_id=run_id,
    )


_listed: dict[UUID, set[str]] = {}
"""The keys of what is listed in the runs that this process works on."""


async def list_in_run(
    client: PrefectClient, key: str, artifact_id: str, *, description: str
) -> None:
    """Link the artifact `key` from this run, once: pages outlive the runs that write them."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    run_id = context.flow_run.id
    if run_id not in _listed:
        _listed[run_id] = await _listed_before(client, run_id)
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
