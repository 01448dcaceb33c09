"""Change an implementation that is underway."""

from datetime import date
from typing import Annotated, Literal

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.implementation.advance import NoSuchImplementation
from linekeeper.implementation.change import Update, change
from linekeeper.implementation.scope import PlanError
from tasks.implementation import publish, retag_waiting
from tasks.run import open_runtime, rename


@flow(name="implementation-update", flow_run_name="update {implementation}", retries=0)
@form
async def implementation_update(
    implementation: Annotated[
        str,
        Field(title="Implementation", description="Its title, slug or customer", min_length=1),
    ],
    action: Annotated[
        Literal["hold", "resume", "skip", "move", "reassign", "target", "abandon"],
        Field(
            title="Action",
            description="hold or resume it · skip a gate · move a date · reassign it or a gate · "
            "target: where a system is reached · abandon it",
        ),
    ],
    by: Annotated[str, Field(title="By", description="Who; kept in the audit", min_length=1)],
    gate: Annotated[
        str,
        Field(
            title="Gate",
            description="Its title or id: for skip, for move of due or earliest, for reassign of "
            "one gate. For target: the system",
        ),
    ] = "",
    reason: Annotated[
        str, Field(title="Reason", description="Needed to hold, to skip and to abandon")
    ] = "",
    which_date: Annotated[
        Literal["committed", "due", "earliest"],
        Field(title="Which date", description="For move: of the whole, or of the gate"),
    ] = "committed",
    day: Annotated[date | None, Field(title="Date", description="For move")] = None,
    to: Annotated[
        str,
        Field(
            title="To",
            description="For reassign: a person, or us, customer, makini. For target: host:port",
        ),
    ] = "",
) -> State[None]:
    """Hold or resume an implementation, skip a gate, move a date, reassign, abandon."""
    async with open_runtime() as rt:
        wanted = Update(
            implementation=implementation,
            action=action,
            by=by,
            gate=gate,
            reason=reason,
            which_date=which_date,
            day=day,
            to=to,
        )
        try:
            done = await change(rt.store, wanted, now=utcnow())
        except (PlanError, NoSuchImplementation) as refusal:
            await rename(f"update · {implementation[:60]} · refused")
            return Failed(message=f"Refused, nothing was changed. {refusal}")
        one = done.progress.standing.implementation
        await publish([one.id])
        if action == "reassign":
            await retag_waiting(done.progress.standing)
        await rename(f"update · {one.title} · {action}")
        get_run_logger().info("%s", done.message)
        return Completed(
            message=f"{done.message}. Go-live likely {done.progress.outlook.p50} "
            f"({done.progress.outlook.commitment})"
        )
