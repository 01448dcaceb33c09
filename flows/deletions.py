"""Deciding about records that are gone at the source: accept, refuse, undo (MISSION B9)."""

from contextlib import suppress
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.incidents.news import since
from linekeeper.reconcile.decisions import Decision, NoDeletion, decide_deletions
from linekeeper.runtime import UnknownApp
from tasks.notify import NotDelivered, notify
from tasks.reconcile import report_trust
from tasks.run import open_runtime, refused, rename


@flow(name="deletions", flow_run_name="deletions · {decision}", retries=0)
@form
async def deletions(
    deletion: Annotated[
        str,
        Field(
            title="Deletion",
            description="Its id (links in the artifact webhook-trust fill it in), or a "
            "connection: then all that wait there, or, for *undo*, the last one",
            min_length=1,
        ),
    ],
    decision: Annotated[
        Decision,
        Field(
            title="Decision",
            description="accept: delete them here too; refuse: keep them; undo: bring back what "
            "was deleted in the last 30 days",
        ),
    ],
    by: Annotated[
        str, Field(title="Your name", description="Who decides; kept in the audit", min_length=1)
    ],
) -> State[None]:
    """Accept or refuse deletions too many to be believed, or undo one that was applied."""
    async with open_runtime() as rt:
        started = utcnow()
        try:
            done = await decide_deletions(rt, deletion, decision, by=by.strip(), now=started)
        except (NoDeletion, UnknownApp) as error:
            return refused("deletion", error, "Enter the id shown in the artifact `deletions`.")
        for decided in done:
            get_run_logger().info("%s", decided.sentence)
        await report_trust()
        told = await since(rt.store, started)
        if told.lanes:
            with suppress(NotDelivered):  # it stays in the outbox, and the consumer tries on
                await notify(told.lanes)
        records = sum(one.records for one in done)
        await rename(f"deletions · {decision} · {records:,} records")
        return Completed(message="; ".join(one.sentence for one in done))
