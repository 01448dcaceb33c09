"""Do webhooks again: plan first, then run."""

from typing import Annotated, Literal

from prefect import flow, get_run_logger
from prefect.artifacts import acreate_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.form import Moment, form, moment_of
from linekeeper.customers.find import NotFound, find_connection
from linekeeper.inbox.claim import Status
from linekeeper.inbox.replay import ReplayPlan, Selection
from linekeeper.markdown import code, text
from linekeeper.outbox.given_up import ForwardSelection, GivenUpForwards
from linekeeper.refusal import Refusal
from tasks.run import open_runtime, refused, rename
from tasks.webhooks import plan, plan_forwards, run_forwards, run_replay


@flow(name="replay-webhooks", flow_run_name="replay {status}", retries=0)
@form
async def replay_webhooks(
    status: Annotated[
        Status | Literal["forward_dead"],
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
        await acreate_markdown_artifact(_table(planned, status), key="replay-webhooks")
        if dry_run:
            summary = f"would replay {planned.replayed:,} of {planned.events:,} {status}"
        else:
            summary = f"replayed {await run_replay(selection):,} {status}"
        get_run_logger().info(summary)
        await rename(f"replay · {summary}")
        pruned = planned.without_body
        note = f"; {pruned:,} are too old, their payloads are pruned" if pruned else ""
        return Completed(message=summary.capitalize() + note)


async def _hand_on_again(selection: ForwardSelection, dry_run: bool) -> State[None]:
    """Hand on to the product what it did not take; nothing is applied again."""
    planned = await plan_forwards(selection)
    await acreate_markdown_artifact(_forwards_table(planned), key="replay-webhooks")
    if dry_run:
        count = min(planned.count, selection.limit)
        summary = f"would hand on {count:,} of {planned.count:,} given up"
    else:
        summary = f"handed on {await run_forwards(selection):,} that were given up"
    get_run_logger().info(summary)
    await rename(f"replay · {summary}")
    return Completed(message=summary.capitalize())


def _forwards_table(planned: GivenUpForwards) -> str:
    head = "| Written | Why | Event or change |\n|---|---|---|"
    rows = [
        f"| {forward.written_at:%Y-%m-%d %H:%M} | {text(forward.error, 160)} "
        f"| {code(forward.about)} |"
        for forward in planned.forwards
    ]
    title = f"# {planned.count:,} messages for the product were given up"
    return "\n\n".join([title, head]) + "\n" + "\n".join(rows) + "\n"


def _table(planned: ReplayPlan, status: str) -> str:
    kinds = ", ".join(f"{count:,} {text(kind)}" for kind, count in sorted(planned.by_kind.items()))
    lines = [
        f"# {planned.replayed:,} of {planned.events:,} {status} webhooks",
        kinds or "There are none.",
        "| Received | Connection | Event | Why | Id |\n|---|---|---|---|---|",
    ]
    rows = [
        f"| {line.received_at:%Y-%m-%d %H:%M} | {text(line.connection)} | {text(line.event)} "
        f"| {text(line.error, 160)} | {code(line.id)} |"
        for line in planned.lines
    ]
    return "\n\n".join(lines) + "\n" + "\n".join(rows) + "\n"
