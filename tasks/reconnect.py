"""Steps of reconnecting: what the graph shows of the asking; verify, backfill, close, report."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from prefect import get_client, get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun

from linekeeper.clock import utcnow
from linekeeper.graph import span
from linekeeper.makini import NO_TOKEN, MakiniError
from linekeeper.reconcile.backfill import reconcile_window
from linekeeper.reconnect import process
from linekeeper.reconnect.case import Case, load_case
from linekeeper.reconnect.counts import keep_counts
from linekeeper.reconnect.graph import load_facts, nodes
from linekeeper.reconnect.process import NotVerified
from tasks.drawn import draw
from tasks.prefect_adapter.case_pages import write_case_page
from tasks.report import put_artifact
from tasks.run import runtime
from tasks.task import retry_policy, task

_AT_ONCE = 8


@task(name="verify", **retry_policy(retries=4, first_wait=2, minutes=30))
async def verify(members: Mapping[str, str]) -> bool:
    """Verify that connections (id → label) work again; False if a login is lost again.

    Raises `MakiniError` where one could not be asked: the task tries again.
    """
    log, rt = get_run_logger(), runtime()
    gate = asyncio.Semaphore(_AT_ONCE)

    async def step(connection_id: str, label: str) -> bool:
        async with gate:
            try:
                seen = await process.verify_login(rt, connection_id)
            except NotVerified as problem:
                log.warning("%s: %s", label, problem)
                return False
        log.info("%s: %s", label, seen)
        return True

    return await _all(step, members)


@task(name="backfill", **retry_policy(retries=4, first_wait=5, minutes=120))
async def backfill(incident_id: str, members: Mapping[str, str], until: datetime) -> None:
    """Fetch what changed at connections (id → label) between their last good moment and `until`.

    The counts are kept as each is done, so a further try, or another run, does only the rest.
    """
    log, rt = get_run_logger(), runtime()
    gate = asyncio.Semaphore(_AT_ONCE)
    case = await load_case(rt.store, incident_id, now=utcnow())
    assert case is not None  # the run works on it
    assert case.reconnect is not None
    windows, done = case.reconnect.windows, case.reconnect.counts

    async def step(connection_id: str, label: str) -> bool:
        if connection_id in done or connection_id not in windows:
            return True
        since = datetime.fromisoformat(windows[connection_id])
        async with gate:
            try:
                counts = await reconcile_window(rt, connection_id, since)
            except MakiniError as error:
                if error.code != NO_TOKEN:
                    raise
                log.warning("%s: nothing is fetched: no token, and none may be minted", label)
                return True
        kept = await keep_counts(rt, incident_id, connection_id, counts, since=since, until=until)
        said = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in kept.items())
        log.info("%s since %s: %s", label, f"{since:%Y-%m-%d %H:%M} UTC", said)
        return True

    await _all(step, members)


async def _all(step: Callable[[str, str], Awaitable[bool]], members: Mapping[str, str]) -> bool:
    """Whether all came out true; the first error is raised when the others are done."""
    endings = await asyncio.gather(
        *(step(connection_id, label) for connection_id, label in members.items()),
        return_exceptions=True,
    )
    for ending in endings:
        if isinstance(ending, BaseException):
            raise ending
    return all(endings)


@task(name="close", retries=2, task_run_name="close")
async def close(incident_id: str, outcome: str) -> str:
    """End the case, and show so on its page; returns it in a sentence."""
    sentence = await process.close(runtime(), incident_id, outcome, now=utcnow())
    await report_reconnect(incident_id)
    return sentence


async def draw_case(client: PrefectClient, run: FlowRun, case: Case) -> None:
    """Draw what led to the login, or is waited for, in the graph of the run of the case."""
    now, rt = utcnow(), runtime()
    # Prefect's times are of a class of its own, whose differences do not divide.
    began = datetime.fromtimestamp(run.start_time.timestamp(), UTC) if run.start_time else now
    shown_nodes, _ = span(
        nodes(case, await load_facts(rt.store, case), now=now), began=began, now=now
    )
    await draw(client, run, "reconnect-step", shown_nodes, now=now, final=True)


async def report_reconnect(incident_id: str) -> None:
    """Write `reconnect-<incident>`: what was tried, who has to log in, by which link."""
    rt = runtime()
    case = await load_case(rt.store, incident_id, now=utcnow())
    if case is None:
        return
    async with get_client() as client:
        await write_case_page(rt, client, case)


async def publish(key: str, markdown: str, *, description: str) -> None:
    """Write the artifact `key`."""
    async with get_client() as client:
        await put_artifact(client, key, markdown, description=description)
