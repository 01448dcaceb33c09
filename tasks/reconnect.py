"""Steps of reconnecting: prove, back-fill, report; and the watch over runs that should be there."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
from prefect import get_client, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.tasks import Task, exponential_backoff
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.connect.links import link_url
from linekeeper.connect.signing import load_signer
from linekeeper.makini import MakiniError
from linekeeper.markdown import text
from linekeeper.notices.text import duration
from linekeeper.reconcile.service import reconcile_window
from linekeeper.reconnect import process
from linekeeper.reconnect.case import Case, load_case, open_cases
from linekeeper.reconnect.process import Unproven
from linekeeper.reconnect.runs import run_key, start_another
from linekeeper.reconnect.watch import watch
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Outbox, Reconnect, Transition
from tasks.report import put_artifact
from tasks.run import runtime

_AT_ONCE = 8


async def is_passing(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again can help."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, StillFailing) or (isinstance(error, MakiniError) and error.retryable)


class StillFailing(Exception):
    """Some could not be done; the task tries those again."""


@task(
    name="prove",
    retries=4,
    retry_delay_seconds=exponential_backoff(backoff_factor=2),
    retry_jitter_factor=0.5,
    retry_condition_fn=is_passing,
    timeout_seconds=1_800,
    cache_policy=NO_CACHE,
    persist_result=False,
)
async def prove(members: Mapping[str, str]) -> bool:
    """Prove that connections (id → label) work again; False if a login is lost again.

    Raises `MakiniError` where one could not be asked: the task tries again.
    """
    log, rt = get_run_logger(), runtime()
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(connection_id: str, label: str) -> bool:
        async with gate:
            try:
                seen = await process.prove(rt, connection_id)
            except Unproven as problem:
                log.warning("%s: %s", label, problem)
                return False
        log.info("%s: %s", label, seen)
        return True

    return await _all(one, members)


@task(
    name="back-fill",
    retries=4,
    retry_delay_seconds=exponential_backoff(backoff_factor=5),
    retry_jitter_factor=0.5,
    retry_condition_fn=is_passing,
    timeout_seconds=7_200,
    cache_policy=NO_CACHE,
    persist_result=False,
)
async def back_fill(incident_id: str, members: Mapping[str, str], until: datetime) -> None:
    """Fetch what changed at connections (id → label) between their last good moment and `until`.

    The counts are kept as each is done, so a further try, or another run, does only the rest.
    """
    log, rt = get_run_logger(), runtime()
    gate = asyncio.Semaphore(_AT_ONCE)
    case = await load_case(rt.store, incident_id, now=utcnow())
    assert case is not None  # the run works on it
    assert case.reconnect is not None
    windows, done = case.reconnect.windows, case.reconnect.counts

    async def one(connection_id: str, label: str) -> bool:
        if connection_id in done or connection_id not in windows:
            return True
        since = datetime.fromisoformat(windows[connection_id])
        if not await process.can_read(rt, connection_id):
            log.warning("%s: nothing is fetched: no token, and none may be minted", label)
            return True
        async with gate:
            counts = await reconcile_window(rt, connection_id, since, until)
        kept = await process.keep_counts(
            rt, incident_id, connection_id, counts, since=since, until=until
        )
        said = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in kept.items())
        log.info("%s since %s: %s", label, f"{since:%Y-%m-%d %H:%M} UTC", said)
        return True

    await _all(one, members)


async def _all(one: Callable[[str, str], Awaitable[bool]], members: Mapping[str, str]) -> bool:
    """Whether all came out true; the first error is raised when the others are done."""
    endings = await asyncio.gather(
        *(one(connection_id, label) for connection_id, label in members.items()),
        return_exceptions=True,
    )
    for ending in endings:
        if isinstance(ending, BaseException):
            raise ending
    return all(endings)


@task(
    name="report-reconnect",
    task_run_name="artifact of the reconnect",
    retries=2,
    cache_policy=NO_CACHE,
    persist_result=False,
)
async def report_reconnect(incident_id: str) -> None:
    """Write `reconnect-<incident>`: what was tried, who has to log in, by which link."""
    rt = runtime()
    case = await load_case(rt.store, incident_id, now=utcnow())
    if case is None:
        return
    markdown = await _markdown(rt, case)
    await publish(artifact_of(incident_id), markdown, description=case.incident.title)


def artifact_of(incident_id: str) -> str:
    """The artifact's key."""
    return f"reconnect-{incident_id}"


async def _markdown(rt: Runtime, case: Case) -> str:
    signer = await load_signer(rt.store)
    now = utcnow()
    reconnect = case.reconnect
    tried = await _tried(rt, [one.connection_id for one in case.members[:200]])
    lines = [
        f"# {text(case.incident.title)}",
        f"Login lost {duration(now - case.incident.opened_at)} ago. What could be mended without "
        "the customer was tried first (refresh the token, mint a new one).",
        "| Connection | State | What Makini said | Connect link | Caught up |\n"
        "|---|---|---|---|---|",
    ]
    rows = []
    for one in case.members[:200]:
        url = (
            link_url(signer, rt.settings.resolved_public_url, one.link_id)
            if one.waits and one.link_id
            else None
        )
        counts = (reconnect.counts if reconnect else {}).get(one.connection_id, {})
        state = "waits for its customer" if one.waits else one.health.replace("_", " ")
        rows.append(
            f"| {text(one.label)} | {state} | {text(tried.get(one.connection_id), 160)} | "
            f"{f'[link]({url})' if url else '—'} | {counts.get('caught_up', '—')} |"
        )
    more = len(case.members) - 200
    return (
        "\n\n".join(lines)
        + "\n"
        + "\n".join(rows)
        + (f"\n\n… and {more} more.\n" if more > 0 else "\n")
    )


async def _tried(rt: Runtime, connections: Sequence[str]) -> dict[str, str]:
    async with rt.store.read() as session:
        rows = await session.execute(
            select(Transition.connection_id, Transition.source, Transition.evidence)
            .where(
                col(Transition.connection_id).in_(connections),
                col(Transition.axis) == "health",
                col(Transition.after) == "reauthorization_required",
            )
            .order_by(col(Transition.at), col(Transition.id))
        )
        return {row[0]: f"{row[1]}: {_said(row[2])}" for row in rows}


def _said(evidence: Mapping[str, Any]) -> str:
    return " ".join(str(evidence[name]) for name in ("code", "message") if evidence.get(name))


async def publish(key: str, markdown: str, *, description: str) -> None:
    """Write the artifact `key`."""
    async with get_client() as client:
        await put_artifact(client, key, markdown, description=description)


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
                missing = await _is_missing(rt, client, case.reconnect)
            except (httpx.HTTPError, PrefectHTTPStatusError) as error:
                get_run_logger().warning(
                    "the runs of open reconnects could not be looked at: %s", type(error).__name__
                )
                break
            if missing:
                started += await start_another(rt, incident_id, now=now)
    return started


async def _is_missing(rt: Runtime, client: PrefectClient, reconnect: Reconnect) -> bool:
    if reconnect.run_id is None:
        return await _never_began(rt, client, run_key(reconnect))
    try:
        run = await client.read_flow_run(UUID(reconnect.run_id))
    except ObjectNotFound:
        return True
    return run.state is not None and run.state.is_final()


async def _never_began(rt: Runtime, client: PrefectClient, key: str) -> bool:
    """Whether a run was handed to a Prefect that lost it before it began."""
    async with rt.store.read() as session:
        on_the_way = await session.scalar(
            select(Outbox.id).where(
                col(Outbox.dedupe_key) == f"run:{key}", col(Outbox.status) == "pending"
            )
        )
    if on_the_way is not None:
        return False
    ours = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[key]))
    runs = await client.read_flow_runs(flow_run_filter=ours)
    return all(run.state is not None and run.state.is_final() for run in runs)
