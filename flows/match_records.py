"""Which record of a connection that was replaced is which of its successor, said by a person."""

from contextlib import suppress
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from blocks.text import pairs as pairs_of
from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.incidents.news import since
from linekeeper.reconcile.match_decisions import Decision, NoMatch, decide_matches
from linekeeper.runtime import UnknownApp
from tasks.notify import NotDelivered, notify
from tasks.reconcile import report_matches
from tasks.run import open_runtime, rename


@flow(name="match-records", flow_run_name="match-records · {connection}", retries=0)
@form
async def match_records(
    connection: Annotated[
        str,
        Field(
            title="Connection",
            description="Its name, `Customer · System`, a tag, or Makini's key",
            min_length=1,
        ),
    ],
    decision: Annotated[
        Decision,
        Field(
            title="Decision",
            description="show: write the page with what waits; pair: match the pairs below; "
            "same_contents: match those whose contents are the same and nobody else's; distinct: "
            "no record is one of the others",
        ),
    ] = "show",
    pairs: Annotated[
        str, Field(title="Pairs", description="For *pair*: old key = new key, one a line")
    ] = "",
    by: Annotated[str, Field(title="Your name", description="Who decides; kept in the audit")] = "",
) -> State[None]:
    """Say which record is which where a new connection renamed the keys and nothing tells."""
    async with open_runtime() as rt:
        started = utcnow()
        try:
            if decision == "show":
                groups = await report_matches(connection)
                await rename(f"match-records · {groups:,} groups wait")
                return Completed(message=f"{groups:,} groups of records wait for a decision")
            if not by.strip():
                raise NoMatch("Say who decides (your name); nothing was done")
            done = await decide_matches(
                rt, connection, decision, pairs=pairs_of(pairs), by=by.strip(), now=started
            )
        except (NoMatch, UnknownApp, ValueError) as error:
            return Completed(name="Refused", message=str(error))
        sentence = (
            f"{done.matched:,} records matched, {done.new:,} told as new, {done.left:,} still wait"
        )
        get_run_logger().info("%s", sentence)
        await report_matches(connection)
        told = await since(rt.store, started)
        if told.lanes:
            with suppress(NotDelivered):  # it stays in the outbox, and the consumer tries on
                await notify(told.lanes)
        await rename(f"match-records · {sentence}")
        return Completed(message=sentence)
