"""Skip a step of an implementation that is underway."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from linekeeper.implementation.change import Update
from tasks.implementation_change import carry_out


@flow(name="implementation-skip", flow_run_name="skip {step} of {implementation}", retries=0)
async def implementation_skip(
    implementation: Annotated[str, Field(title="Implementation", min_length=1)],
    step: Annotated[str, Field(title="Step", min_length=1)],
    reason: Annotated[str, Field(title="Reason")],
    by: Annotated[str, Field(title="Your name", min_length=1)],
) -> State[None]:
    """Skip a step: what needs it goes on as if it were done, and its reason is its evidence.

    Args:
        implementation: Its title, its short name, or its customer
        step: Its title or id
        reason: Why it is not needed; kept in the audit and shown in the graph
        by: Who skips it; it is kept in the audit
    """
    return await carry_out("skip", Update(implementation, "skip", by, gate=step, reason=reason))
