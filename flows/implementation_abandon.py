"""Abandon an implementation that is underway."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from linekeeper.implementation.change import Update
from tasks.implementation_change import carry_out


@flow(name="implementation-abandon", flow_run_name="abandon {implementation}", retries=0)
async def implementation_abandon(
    implementation: Annotated[str, Field(title="Implementation", min_length=1)],
    reason: Annotated[str, Field(title="Reason")],
    by: Annotated[str, Field(title="Your name", min_length=1)],
) -> State[None]:
    """Abandon an implementation: its run ends, and the credits reserved for it come back.

    Args:
        implementation: Its title, its short name, or its customer
        reason: Why; kept in the audit
        by: Who abandons it; it is kept in the audit
    """
    return await carry_out("abandon", Update(implementation, "abandon", by, reason=reason))
