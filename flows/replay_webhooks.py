"""Do webhooks again: plan first, then run."""

from typing import Annotated, Literal

from prefect import flow, get_run_logger
from prefect.artifacts import acreate_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.form import Moment, form, moment_of
from linekeeper.clock import utcnow
from linekeeper.customers.find import NotFound, find_connection
from linekeeper.inbox.claim import Status
from linekeeper.inbox.replay import Selection
from linekeeper.outbox.given_up import ForwardSelection
from linekeeper.refusal import Refusal
from linekeeper.views.replay_page import forwards_markdown, replay_markdown
from tasks.run import open_runtime, refused, rename
from tasks.webhooks import plan, plan_forwards, run_forwards, run_replay


@flow(name="replay-webhooks", flow_run_name="replay {status}", retries=0)
@form
async def replay_webhooks(
    status: Annotated[
        Literal[Status, "forward_dead"],
        Field(
            title="Status",
            description="Which events, by the status in which they ended; forward_dead: messages "
            "that were given up because the product took nothing for three days",
        ),
    ] = "dead",
    since: Annotated[
        Moment | None,
        Field(
            title="Since",
            description="Received then or later; empty: all that are kept. UTC unless it says else",
        ),
    ] = None,
    connection: Annotated[
        str | None,
        Field(
            title="Connection",
            description="Its name, `Customer · System`, a tag, or Makini's key; empty: all",
        ),
    ] = None,
    limit: Annotated[
        int,
        Field(
            title="At most", ge=1, le=1_000_000, description="How many at most, the oldest first"
        ),
    ] = 1_000,
    dry_run: Annotated[
        bool,
        Field(title="Dry run", description="Only say what would be replayed; write nothing"),
    ] = True,
) -> State[None]:
    """Put settled webhooks in again; each replay keeps its link to the original.

    It may be cancelled at any time: a further run goes on where it stopped. They are applied by the
    consumer, or the next `process-webhooks`, and forwarded to the product under their old ids.
    """
    async with open_runtime() as rt:
        connection_id = None
        try:
            after = moment_of("since", since)
            if connection:
                async with rt.store.read() as session:
                    connection_id = (await find_connection(session, connection)).id
        except Refusal as error:
            return refused(error.field, error, "Pick it in the calendar, or leave it empty.")
        except NotFound as error:
            return refused(
                "connection", error, "Enter its name, `Customer · System`, a tag or Makini's key."
            )
        if status == "forward_dead":
            return await _hand_on_again(ForwardSelection(after, connection_id, limit), dry_run)
        selection = Selection(status, after, connection_id, limit)
        planned = await plan(selection)
        await acreate_markdown_artifact(replay_markdown(planned, status), key="replay-webhooks")
        if dry_run:
            summary = f"would replay {planned.replayed:,} of {planned.events:,} {status}"
        else:
            summary = f"replayed {await run_replay(selection, utcnow()):,} {status}"
        get_run_logger().info(summary)
        await rename(f"replay · {summary}")
        pruned = planned.without_body
        note = f"; {pruned:,} are too old, their payloads are pruned" if pruned else ""
        return Completed(message=summary.capitalize() + note)


async def _hand_on_again(selection: ForwardSelection, dry_run: bool) -> State[None]:
    """Hand on to the product what it did not take; nothing is applied again."""
    planned = await plan_forwards(selection)
    await acreate_markdown_artifact(forwards_markdown(planned), key="replay-webhooks")
    if dry_run:
        count = min(planned.count, selection.limit)
        summary = f"would hand on {count:,} of {planned.count:,} given up"
    else:
        summary = f"handed on {await run_forwards(selection, utcnow()):,} that were given up"
    get_run_logger().info(summary)
    await rename(f"replay · {summary}")
    return Completed(message=summary.capitalize())
