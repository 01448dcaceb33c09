"""What a run wrote, listed in its Artifacts tab: a link to each page."""

from uuid import UUID

from prefect.artifacts import LinkArtifact
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.context import FlowRunContext

from linekeeper.cli.links import ui_url
from linekeeper.cli.names import every
from linekeeper.notify.view import Links

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
    found = await every(client.read_artifacts, artifact_filter=ours)
    return {str(artifact.data).partition("](")[0].removeprefix("[") for artifact in found}
