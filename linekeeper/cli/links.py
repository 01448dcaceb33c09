"""Where in the Prefect UI things are, for links in messages and tables."""

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.settings import PREFECT_UI_URL

from linekeeper.cli.names import every, flow_of, tag
from linekeeper.notify.view import Links


def ui_url(client: PrefectClient) -> str:
    """The UI's address."""
    return PREFECT_UI_URL.value() or str(client.api_url).rstrip("/").removesuffix("/api")


async def find_links(client: PrefectClient, *, run_id: str | None = None) -> Links:
    """The UI's address and our deployments; `run_id` is the run that tells of something.

    Errors of Prefect's client pass through.
    """
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[tag()]))
    deployments = await every(client.read_deployments, deployment_filter=ours)
    return Links(
        ui_url=ui_url(client),
        deployments={flow_of(deployment.name): str(deployment.id) for deployment in deployments},
        run_id=run_id,
    )
