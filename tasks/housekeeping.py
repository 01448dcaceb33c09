"""Removing expired data, here and on the Prefect server."""

from contextlib import suppress
from datetime import datetime

from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import TERMINAL_STATES
from prefect.exceptions import ObjectNotFound
from prefect.tasks import exponential_backoff

from linekeeper.housekeeping import PrunedRows, prune
from linekeeper.inbox import retention
from tasks.prefect_adapter.names import tag
from tasks.run import runtime
from tasks.task import task

RUNS_A_CALL = 50
"""The server allows no more at once."""


@task(
    name="prune database",
    retries=2,
    retry_delay_seconds=exponential_backoff(backoff_factor=10),
)
async def prune_database(
    *,
    outbox_before: datetime,
    observations_before: datetime,
    traces_before: datetime,
    audit_before: datetime | None,
    dry_run: bool,
) -> PrunedRows:
    """Remove delivered outbox rows, old observations, old traces and the old of the audit."""
    return await prune(
        runtime().store,
        outbox_before=outbox_before,
        observations_before=observations_before,
        traces_before=traces_before,
        audit_before=audit_before,
        dry_run=dry_run,
    )


@task(
    name="prune webhooks",
    retries=2,
    retry_delay_seconds=exponential_backoff(backoff_factor=10),
)
async def prune_webhooks(
    *, payloads_before: datetime, events_before: datetime, now: datetime, dry_run: bool
) -> retention.PrunedPayloads:
    """Empty old payloads and remove webhooks older still."""
    return await retention.prune_inbox(
        runtime().store,
        payloads_before=payloads_before,
        events_before=events_before,
        now=now,
        dry_run=dry_run,
    )


@task(
    name="prune runs",
    retries=2,
    retry_delay_seconds=exponential_backoff(backoff_factor=10),
)
async def prune_runs(*, before: datetime, dry_run: bool) -> int:
    """Remove Linekeeper's runs that ended before `before`, with their logs.

    The server `linekeeper up` starts does so itself; one of your own does only if configured to.
    """
    old = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag()]),
        end_time=FlowRunFilterEndTime(before_=before, is_null_=False),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=sorted(TERMINAL_STATES))),
    )
    async with get_client() as client:
        if dry_run:
            return await client.count_flow_runs(flow_run_filter=old)
        return await _remove(client, old)


async def _remove(client: PrefectClient, old: FlowRunFilter) -> int:
    removed = 0
    while runs := await client.read_flow_runs(flow_run_filter=old, limit=RUNS_A_CALL):
        for run in runs:
            with suppress(ObjectNotFound):  # the server, or another run, has just removed it
                await client.delete_flow_run(run.id)
                removed += 1
    return removed
