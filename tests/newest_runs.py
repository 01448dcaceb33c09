"""Runs of a Prefect server that many tests share: it gives 200 at a time, in no order unasked."""

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort


async def newest_runs(client: PrefectClient) -> list[FlowRun]:
    """Those that began last, and those that are to begin."""
    return await client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC)
