"""The fallback for the consumer: drain, publish, turn red for what is newly dead."""

from contextlib import suppress

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun
from prefect.states import Completed, Failed

from linekeeper.clock import utcnow
from linekeeper.views.webhook_figures import mark_reported, newly_dead
from linekeeper.views.webhooks_page import webhooks_headline, whose
from tasks.report import is_stale
from tasks.run import by_hand, only_one, open_runtime, rename, skipped
from tasks.webhooks import WEBHOOKS, dead_webhook, drain, report_webhooks, webhook_figures

MOST_NAMED = 50
"""Failed task runs for dead events; the rest is in the artifact."""


@flow(name="process-webhooks", flow_run_name="webhooks", retries=0)
async def process_webhooks() -> State[None]:
    """Apply what the consumer left, and publish how the stream of webhooks is.

    Ends `Failed` when an event is newly dead, each of them a failed task run; `Skipped` where
    another run is at it. A pause does not stop it: webhooks are applied all the same.
    """
    async with open_runtime() as rt, only_one("process-webhooks") as held:
        if held is None:
            await rename("webhooks · skipped")
            return skipped("Another run is still at it; this one had nothing to add")
        found = await drain()
        started = utcnow()
        dead = await newly_dead(rt.store)
        for one in dead[:MOST_NAMED]:
            name = f"{whose(one)} · {one.event}"
            received = f"received {one.at:%Y-%m-%d %H:%M} UTC"
            with suppress(FailedRun):  # its failure is the message, not ours
                await dead_webhook(name, f"{received}, event {one.id}: {one.error}")
        count = await mark_reported(rt.store, now=started)
        figures = await webhook_figures()
        if found or count or figures.total("pending") or by_hand() or await is_stale(WEBHOOKS):
            await report_webhooks(figures)
        headline = webhooks_headline(figures)
        if count:
            await rename(f"webhooks · {count:,} newly dead")
            why = dead[0].error if dead else "see the artifact"
            return Failed(message=f"{count:,} newly dead: {why} ({headline})")
        waiting = figures.total("pending")
        await rename(f"webhooks · {waiting:,} waiting" if waiting else "webhooks · all applied")
        return Completed(message=headline)
