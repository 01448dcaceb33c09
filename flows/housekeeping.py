"""Daily: remove expired data."""

from datetime import timedelta
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.sweep.forward_words import lost_words
from linekeeper.text import counted
from tasks.housekeeping import prune_database, prune_runs, prune_webhooks
from tasks.run import completed, open_runtime, rename
from tasks.webhooks import end_lost_forwards

Days = Annotated[int, Field(ge=1, le=3650)]


@flow(name="housekeeping", flow_run_name="housekeeping")
@form
async def housekeeping(
    *,
    outbox_days: Days = 7,
    observation_days: Days = 30,
    trace_days: Days = 30,
    run_days: Days = 30,
    payload_days: Days = 30,
    webhook_days: Annotated[int, Field(ge=30, le=3650)] = 90,
    audit_days: Annotated[int, Field(ge=0, le=3650)] = 0,
    dry_run: bool = False,
) -> State[Any]:
    """Remove expired data. Incidents and transitions stay.

    Args:
        outbox_days: Delivered messages, events and run requests are kept so many days.
        observation_days: What was observed about connections is kept so many days.
        trace_days: Attempts to forward and to log in, and reads of the change feed, are kept so
            many days.
        run_days: Finished Prefect runs of Linekeeper are kept so many days.
        payload_days: Webhooks keep their bodies so many days, four at least; afterwards they can't
            be replayed.
        webhook_days: Webhooks' ids are known so many days, so that a repeat is recognised.
        audit_days: Who did what is kept so many days; 0: for good.
        dry_run: Only count what would be removed.
    """
    now = utcnow()
    async with open_runtime():
        pruned = await prune_database(
            outbox_before=now - timedelta(days=outbox_days),
            observations_before=now - timedelta(days=observation_days),
            traces_before=now - timedelta(days=trace_days),
            audit_before=now - timedelta(days=audit_days) if audit_days else None,
            dry_run=dry_run,
        )
        webhooks = await prune_webhooks(
            payloads_before=now - timedelta(days=payload_days),
            events_before=now - timedelta(days=webhook_days),
            now=now,
            dry_run=dry_run,
        )
        lost = 0 if dry_run else await end_lost_forwards()
        runs = await prune_runs(before=now - timedelta(days=run_days), dry_run=dry_run)
        if not dry_run:
            await completed("housekeeping")
    counts = (
        (pruned.outbox, "outbox row"),
        (pruned.observations, "observation"),
        (runs, "run"),
        (pruned.traces, "trace"),
        (pruned.audit, "audit entry"),
        (webhooks.payloads, "payload"),
        (webhooks.events, "webhook"),
    )
    what = ", ".join(counted(count, noun) for count, noun in counts if count) or "nothing"
    if lost:
        what += f"; {lost_words(lost)}"
    outcome = f"would remove {what}" if dry_run else f"removed {what}"
    await rename(f"housekeeping · {outcome}")
    return Completed(message=outcome.capitalize())
