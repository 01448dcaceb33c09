"""Skip a step of an implementation that is underway."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from flows.form import Implementation, form
from linekeeper.implementation.change import Update
from tasks.implementation_change import carry_out


@flow(name="implementation-skip", flow_run_name="skip {step} of {implementation}", retries=0)
@form
async def implementation_skip(
    implementation: Implementation,
    step: Annotated[str, Field(title="Step", description="Its title or id", min_length=1)],
    reason: Annotated[
        str,
        Field(
            title="Reason",
            description="Why it is not needed; kept in the audit and shown in the graph",
        ),
    ],
    by: Annotated[
        str,
        Field(title="Your name", description="Who skips it; it is kept in the audit", min_length=1),
    ],
) -> State[None]:
    """Skip a step: what needs it goes on as if it were done, and its reason is its evidence."""
    return await carry_out(
        "skip",
        Update(implementation, "skip", by, gate=step, reason=reason, fields={"gate": "step"}),
    )
