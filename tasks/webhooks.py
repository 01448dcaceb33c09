"""Steps about webhooks: drain what is left, name what is dead, publish, do again."""

from datetime import datetime

from prefect import get_client, get_run_logger
from prefect.tasks import exponential_backoff

from linekeeper.clock import monotonic, utcnow
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.consumer.record_events import process_record_events
from linekeeper.inbox.replay import ReplayPlan, Selection, plan_replay, replay
from linekeeper.inbox.unrouted import route_again
from linekeeper.outbox.given_up import (
    ForwardSelection,
    GivenUpForwards,
    end_lost,
    given_up_forwards,
    hand_on_again,
)
from linekeeper.views.webhook_figures import Figures, read_figures
from tasks.prefect_adapter.pages import write_webhooks_page
from tasks.run import runtime
from tasks.task import task

DRAIN_SECONDS = 240.0
"""How long the run drains the inbox; after that the consumer, or the next run, goes on."""


@task(
    name="drain",
    task_run_name="apply pending webhooks",
    retries=2,
    retry_delay_seconds=exponential_backoff(backoff_factor=5),
    timeout_seconds=900,
)
async def drain() -> int:
    """Apply what is due, as the consumer does; returns how many found their connection by now."""
    rt = runtime()
    routed = await route_again(rt.store, now=utcnow())
    if routed:
        get_run_logger().info("%d unrouted events have a known connection by now", routed)
    until = monotonic() + DRAIN_SECONDS
    while monotonic() < until and (
        await process_connection_events(rt) or await process_record_events(rt, stop_at=until)
    ):
        pass
    return routed


async def webhook_figures() -> Figures:
    rt = runtime()
    return await read_figures(rt.store, sorted((await rt.configuration()).apps), now=utcnow())


@task(name="report-webhooks", task_run_name="update webhooks page", retries=2)
async def report_webhooks() -> None:
    """Write the artifact `webhooks`."""
    async with get_client() as client:
        await write_webhooks_page(runtime(), client)


@task(name="plan-replay")
async def plan(selection: Selection) -> ReplayPlan:
    """What a replay would do."""
    return await plan_replay(runtime().store, selection)


@task(
    name="replay",
    retries=2,
    retry_delay_seconds=exponential_backoff(backoff_factor=5),
)
async def run_replay(selection: Selection, started: datetime) -> int:
    """Do the selected events again; returns how many. Going on after a failure repeats none."""
    rt = runtime()
    apps, done = (await rt.configuration()).apps, 0
    async for count in replay(rt.store, apps, selection, now=started):
        done += count
        get_run_logger().info("%d put in again", done)
    return done


@task(name="plan-handing-on-again")
async def plan_forwards(selection: ForwardSelection) -> GivenUpForwards:
    """Which messages for the product would be handed on again."""
    return await given_up_forwards(runtime().store, selection)


@task(
    name="hand-on-again",
    retries=2,
    retry_delay_seconds=exponential_backoff(backoff_factor=5),
)
async def run_forwards(selection: ForwardSelection, started: datetime) -> int:
    """Hand on again what was given up; returns how many."""
    done = 0
    async for count in hand_on_again(runtime().store, selection, now=started):
        done += count
        get_run_logger().info("%d handed on again", done)
    return done


@task(
    name="end-lost-forwards",
    retries=2,
    retry_delay_seconds=exponential_backoff(backoff_factor=5),
)
async def end_lost_forwards() -> int:
    """End messages for the product of which the webhook is no longer kept; returns how many."""
    return await end_lost(runtime(), now=utcnow())
