"""Abandon an implementation that is underway."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from flows.form import Implementation, form
from linekeeper.implementation.change import Update
from tasks.implementation_change import carry_out


@flow(name="implementation-abandon", flow_run_name="abandon {implementation}", retries=0)
@form
async def implementation_abandon(
    implementation: Implementation,
    reason: Annotated[str, Field(title="Reason", description="Why; kept in the audit")],
    by: Annotated[
        str,
        Field(
            title="Your name", description="Who abandons it; it is kept in the audit", min_length=1
        ),
    ],
) -> State[None]:
    """Abandon an implementation: its run ends, and the credits reserved for it come back."""
    return await carry_out("abandon", Update(implementation, "abandon", by, reason=reason))
