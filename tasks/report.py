"""Artifacts of the fleet and of connections in trouble."""

from collections.abc import Sequence
from datetime import timedelta

from prefect import get_client
from prefect.client.orchestration import PrefectClient

from linekeeper.clock import utcnow
from tasks.prefect_adapter import pages
from tasks.run import runtime
from tasks.task import task

FRESH = timedelta(hours=1)
"""An artifact is written when something changed, else no more often than this."""


@task(name="report-fleet", task_run_name="update fleet page", retries=2)
async def report_fleet() -> None:
    """Write the artifacts `fleet` and `audit`."""
    async with get_client() as client:
        await pages.write_fleet_pages(runtime(), client)


@task(
    name="report-all-connections",
    task_run_name="update connections page",
    retries=2,
)
async def report_all_connections() -> None:
    """Write the artifact `connections`, and its further parts where there are many."""
    async with get_client() as client:
        await pages.write_all_connections(runtime(), client)


@task(
    name="report-connections",
    task_run_name="update connection pages",
    retries=2,
)
async def report_connections(ids: Sequence[str]) -> None:
    """Write `connection-<slug>` for each of `ids`."""
    async with get_client() as client:
        await pages.write_connection_pages(runtime(), client, ids)


async def put_artifact(client: PrefectClient, key: str, markdown: str, *, description: str) -> None:
    """Write the artifact `key`: the one there is, so that its page and its links stay the same."""
    await pages.put_artifact(runtime(), client, key, markdown, description=description)


async def is_stale(key: str) -> bool:
    """Whether the artifact `key` is missing or older than `FRESH`."""
    async with get_client() as client:
        known = await pages.newest(client, key)
    return known is None or known.updated is None or utcnow() - known.updated > FRESH
