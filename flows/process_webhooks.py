"""The fallback for the consumer: drain, publish, turn red for what is newly dead."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.notify.view import WEBHOOKS
from linekeeper.views.tags import tagged
from linekeeper.views.webhook_figures import mark_reported, newly_dead
from linekeeper.views.webhooks_page import not_applied, webhooks_headline, whose
from tasks.graph import follow, show_in_trouble
from tasks.report import is_stale
from tasks.run import by_hand, completed, only_one, open_runtime, rename, skipped
from tasks.webhooks import drain, report_webhooks, webhook_figures

MOST_NAMED = 50
"""Failed task runs for dead events; the rest is in the artifact."""


@flow(name="process-webhooks", flow_run_name="webhooks", retries=0)
@form
async def process_webhooks() -> State[None]:
    """Apply what the consumer left, and publish how the stream of webhooks is.

    Ends `Failed` when an event is newly dead, each of them a failed task run; `Skipped` where
    another run is at it. A pause does not stop it: webhooks are applied all the same.
    """
    async with open_runtime() as rt, only_one("process-webhooks") as held:
        if held is None:
            await rename("webhooks · skipped")
            return skipped("Another run is still at it; this one had nothing to do")
        counts, drained = await follow(drain)
        started = utcnow()
        dead = await newly_dead(rt.store)
        shown = dead[:MOST_NAMED]
        about = await tagged(
            rt.store, [event.connection_id for event in shown if event.connection_id]
        )
        before = [
            await show_in_trouble(
                f"{whose(event)} · {event.event}",
                f"received {event.at:%Y-%m-%d %H:%M} UTC, event {event.id}: {event.error}",
                about.get(event.connection_id or ""),
                before=[drained],
            )
            for event in shown
        ] or [drained]
        count = await mark_reported(rt.store, now=started)
        figures = await webhook_figures()
        if counts or count or figures.total("pending") or by_hand() or await is_stale(WEBHOOKS):
            await follow(report_webhooks, before=before)
        await completed("process-webhooks")
        headline = webhooks_headline(figures)
        if count:
            await rename(f"webhooks · {count:,} newly dead")
            why = dead[0].error if dead else "see the artifact"
            return Failed(message=f"{count:,} newly dead: {why} ({headline})")
        await rename(f"webhooks · {not_applied(figures)}")
        return Completed(message=headline)
