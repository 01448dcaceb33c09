"""Deciding about records that are gone at the source: deleted, kept, brought back, or renamed."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Literal

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from blocks.text import pairs as pairs_of
from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.incidents.news import since
from linekeeper.reconcile import match_decisions
from linekeeper.reconcile.decisions import Decision, NoDeletion, decide_deletions
from linekeeper.reconcile.match_decisions import NoMatch, decide_matches, waiting_at
from linekeeper.runtime import Runtime, UnknownApp
from linekeeper.text import counted
from tasks.notify import NotDelivered, notify
from tasks.reconcile import report_matches, report_trust
from tasks.run import open_runtime, refused, rename

Decisions = Literal["accept", "refuse", "undo", "show", "pair", "same_contents", "distinct"]
"""Both kinds of decision as one list: of two Prefect's form makes two tabs."""


@flow(name="deletions", flow_run_name="deletions · {decision}", retries=0)
@form
async def deletions(
    deletion: Annotated[
        str,
        Field(
            title="Deletion, or connection",
            description="Its id (links in the artifact webhook-trust fill it in), or a "
            "connection: then all that wait there, or, for *undo*, the last one",
            min_length=1,
        ),
    ],
    decision: Annotated[
        Decisions,
        Field(
            title="Decision",
            description="accept: delete them here too; refuse: keep them; undo: bring back what "
            "was deleted in the last 30 days. Where a new connection renamed the keys, for a "
            "connection: show: write the page with what waits; pair: match the pairs below; "
            "same_contents: match those whose contents are the same and nobody else's; distinct: "
            "no record is one of the others",
        ),
    ],
    by: Annotated[
        str, Field(title="Your name", description="Who decides; kept in the audit", min_length=1)
    ],
    pairs: Annotated[
        str, Field(title="Pairs", description="For *pair*: old key = new key, one a line")
    ] = "",
) -> State[None]:
    """Decide about records that are gone at the source: deleted, kept, brought back, or renamed."""
    try:
        keys = pairs_of(pairs)
    except ValueError as error:
        return refused("pairs", error, "Write old key = new key, one a line.")
    async with open_runtime() as rt:
        try:
            match decision:
                case "accept" | "refuse" | "undo":
                    return await _delete(rt, deletion, decision, by.strip())
                case _:
                    return await _match(rt, deletion, decision, keys, by.strip())
        except NoDeletion as error:
            return refused("deletion", error, "Enter the id shown in the artifact `deletions`.")
        except (NoMatch, UnknownApp) as error:
            return refused("deletion", error, "Correct it and send the form again.")


async def _delete(rt: Runtime, deletion: str, decision: Decision, by: str) -> State[None]:
    started = utcnow()
    done = await decide_deletions(rt, deletion, decision, by=by, now=started)
    for decided in done:
        get_run_logger().info("%s", decided.sentence)
    await report_trust()
    news = await since(rt.store, started)
    if news.ordering_keys:
        with suppress(NotDelivered):  # it stays in the outbox, and the consumer tries on
            await notify(news.ordering_keys)
    records = sum(deletion.records for deletion in done)
    await rename(f"deletions · {decision} · {counted(records, 'record')}")
    return Completed(message="; ".join(deletion.sentence for deletion in done))


async def _match(
    rt: Runtime,
    connection: str,
    decision: match_decisions.Decision,
    pairs: Mapping[str, str],
    by: str,
) -> State[None]:
    """Say which record is which where a new connection renamed the keys and nothing shows it."""
    await waiting_at(rt, connection)  # there is such a connection
    if decision == "show":
        groups = await report_matches(connection)
        await rename(f"deletions · {groups:,} groups wait")
        return Completed(message=f"{groups:,} groups of records wait for a decision")
    started = utcnow()
    done = await decide_matches(rt, connection, decision, pairs=pairs, by=by, now=started)
    matched = counted(done.matched, "record")
    sentence = f"{matched} matched, {done.new:,} announced as new, {done.left:,} still wait"
    get_run_logger().info("%s", sentence)
    await report_matches(connection)
    news = await since(rt.store, started)
    if news.ordering_keys:
        with suppress(NotDelivered):  # it stays in the outbox, and the consumer tries on
            await notify(news.ordering_keys)
    await rename(f"deletions · {sentence}")
    return Completed(message=sentence)
