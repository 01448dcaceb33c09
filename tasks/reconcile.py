"""Steps of reconciling: read a pass, measure the webhooks, publish, name who could not be read."""

import asyncio

from prefect import get_client, get_run_logger
from prefect.tasks import exponential_backoff

from linekeeper.clock import monotonic, utcnow
from linekeeper.reconcile.due import PASSES, Pass, PollOrder, due_in
from linekeeper.reconcile.match_decisions import waiting_at
from linekeeper.reconcile.measure import TrustVerdict
from linekeeper.reconcile.purge import StillAwaited, forget_records
from linekeeper.reconcile.run import conclude, with_window
from linekeeper.reconcile.service import ReconcileRun, read_pass
from linekeeper.views.match_page import match_markdown
from linekeeper.views.trust_page import KEY, trust_headline, trust_markdown
from linekeeper.views.trust_queries import trust_report
from tasks.prefect_adapter.links import links_from_a_page
from tasks.report import put_artifact
from tasks.run import runtime
from tasks.task import task

SAYS_EVERY = 30.0
"""Seconds between two lines of a long pass."""


@task(name="plan", task_run_name="plan")
async def plan(wish: PollOrder) -> PollOrder:
    """What this run reads; the log says how much of each app is due in each pass."""
    rt, log = runtime(), get_run_logger()
    order = await with_window(rt.store, wish)
    for app in (await rt.configuration()).apps.values():
        due = {which: len((await due_in(rt, app, order, which))[0]) for which in PASSES}
        counts = ", ".join(f"{count:,} {which}" for which, count in due.items() if count)
        log.info("%s: %s", app.name, counts or "nothing is due")
    return order


@task(
    name="read-changes",
    task_run_name="read {app}, {which}",
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=5),
    retry_jitter_factor=0.5,
)
async def read_changes(app: str, which: Pass, order: PollOrder) -> ReconcileRun:
    """Read what is due of `app` in this pass, with every other worker that does so.

    A connection that can't be read is in the result. What raises is ours (the database went away):
    the next try goes on where it stopped.
    """
    rt, log = runtime(), get_run_logger()
    begun = monotonic()
    progress = asyncio.create_task(_say_progress(app, which, run := ReconcileRun()))
    try:
        await read_pass(rt, await rt.app(app), order, which, run=run)
    finally:
        progress.cancel()
    if run.readings or run.failures:
        log.info(
            "%s of %s: %d connections, %d listings (%d whole), %d records, %d written, %d missed "
            "by webhooks, %d failed, in %.1f s",
            which,
            app,
            len(run.connections),
            run.readings,
            run.full,
            run.records,
            run.written,
            run.counts.missed,
            len(run.failures),
            monotonic() - begun,
        )
    return run


async def _say_progress(app: str, which: str, run: ReconcileRun) -> None:
    log = get_run_logger()
    while True:
        await asyncio.sleep(SAYS_EVERY)
        log.info(
            "%s of %s: %d connections, %d records so far",
            which,
            app,
            len(run.connections),
            run.records,
        )


@task(
    name="measure-webhooks",
    task_run_name="measure the webhooks",
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=5),
)
async def measure_webhooks(order: PollOrder) -> list[TrustVerdict]:
    """How each connection's webhooks are trusted after this run; what turned bad is in the outbox.

    Incidents of webhooks that never come are opened and resolved here.
    """
    verdicts = await conclude(runtime(), order)
    for verdict in verdicts:
        if verdict.after != verdict.before:
            get_run_logger().info(
                "%s: webhooks %s, were %s", verdict.label, verdict.after, verdict.before
            )
    return verdicts


@task(
    name="report-trust",
    task_run_name="update webhook-trust page",
    retries=2,
)
async def report_trust() -> None:
    """Write the artifact `webhook-trust`."""
    report = await trust_report(runtime().store, now=utcnow())
    async with get_client() as client:
        links = await links_from_a_page(client)
        await put_artifact(
            client,
            KEY,
            trust_markdown(report, links),
            description=trust_headline(report),
        )


@task(
    name="report-matches",
    task_run_name="update page of records to match",
    retries=2,
)
async def report_matches(connection: str) -> int:
    """Write `match-records-<slug>`: what waits there; how many groups. Raises `NoMatch`."""
    waiting = await waiting_at(runtime(), connection)
    async with get_client() as client:
        form = (await links_from_a_page(client)).form("deletions", {})
        await put_artifact(
            client,
            f"match-records-{waiting.slug}",
            match_markdown(waiting, form),
            description=f"{waiting.target.label}: {len(waiting.groups):,} groups wait",
        )
    return len(waiting.groups)


@task(name="purge-records", task_run_name="purge the records of {name}")
async def purge_records(connection_id: str, name: str) -> int:
    """Forget what the index holds of a connection; returns how many records went.

    None do while it is read, or its successor has yet to take them over: the next run that
    reconciles all, and finds them free, forgets them.
    """
    try:
        gone = await forget_records(runtime().store, connection_id)
    except StillAwaited:
        gone = None
    if gone is None:
        get_run_logger().warning("%s is in use: its records are purged later", name)
    else:
        get_run_logger().info("%s: %d records purged", name, gone)
    return gone or 0
