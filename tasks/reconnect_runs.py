"""The watch over the runs of open reconnects: there, and showing what they wait for by now."""

from uuid import UUID

import httpx
from prefect import get_client, get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from linekeeper.clock import utcnow
from linekeeper.reconnect.case import Case, load_case, open_cases
from linekeeper.reconnect.page import waiting_for
from linekeeper.reconnect.process import next_step
from linekeeper.reconnect.runs import is_on_its_way, run_key, run_tags, start_another
from linekeeper.reconnect.watch import watch
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Reconnect
from tasks.prefect_adapter.case_pages import write_case_page
from tasks.prefect_adapter.waiting_tags import without_waiting
from tasks.reconnect import draw_case
from tasks.run import runtime
from tasks.waiting_form import renew


async def watch_runs() -> int:
    """See that every open case has its run: for one that is gone another is started.

    Returns how many were started. A run that ended without closing its case counts as gone. Where
    Prefect does not answer, it is left to the next sweep.
    """
    rt, now = runtime(), utcnow()
    await watch(rt, now=now)
    started = 0
    async with get_client() as client:
        for incident_id in await open_cases(rt.store):
            case = await load_case(rt.store, incident_id, now=now)
            if case is None or case.reconnect is None:
                continue
            try:
                missing = await _is_missing(rt, client, case, case.reconnect)
            except (httpx.HTTPError, PrefectHTTPStatusError) as error:
                get_run_logger().warning(
                    "the runs of open reconnects could not be looked at: %s", type(error).__name__
                )
                break
            if missing:
                started += await start_another(rt, incident_id, now=now)
    return started


async def _is_missing(rt: Runtime, client: PrefectClient, case: Case, reconnect: Reconnect) -> bool:
    if reconnect.run_id is None:
        return await _never_began(rt, client, reconnect)
    try:
        run = await client.read_flow_run(UUID(reconnect.run_id))
    except ObjectNotFound:
        return True
    if run.state is not None and run.state.is_final():
        return True
    await keep_named(client, run, case)
    if next_step(case, str(run.id)) == "wait":
        await renew(client, run, waiting_for(case))
    await write_case_page(rt, client, case, only_if_changed=True)
    await draw_case(client, run, case)
    return False


async def keep_named(client: PrefectClient, run: FlowRun, case: Case) -> None:
    """A run that waits is named and tagged after its incident as it is now: others join it."""
    title, tags = case.incident.title, sorted({*without_waiting(run.tags), *run_tags(case)})
    if (run.name, sorted(run.tags)) != (title, tags):
        await client.update_flow_run(run.id, name=title, tags=tags)


async def _never_began(rt: Runtime, client: PrefectClient, reconnect: Reconnect) -> bool:
    """Whether a run was handed to a Prefect that lost it before it began."""
    if await is_on_its_way(rt.store, reconnect):
        return False
    key = FlowRunFilterIdempotencyKey(any_=[run_key(reconnect)])
    ours = FlowRunFilter(idempotency_key=key)
    runs = await client.read_flow_runs(flow_run_filter=ours)
    return all(run.state is not None and run.state.is_final() for run in runs)
