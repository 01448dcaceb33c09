"""Change the dates or the owner of an implementation that is underway."""

from datetime import date
from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from flows.form import form
from linekeeper.implementation.change import Update
from tasks.implementation_change import carry_out
from tasks.run import refused


@flow(name="implementation-change", flow_run_name="change {implementation}", retries=0)
@form
async def implementation_change(
    implementation: Annotated[
        str,
        Field(
            title="Implementation",
            description="Its title, its short name, or its customer",
            min_length=1,
        ),
    ],
    by: Annotated[
        str,
        Field(
            title="Your name", description="Who changes it; it is kept in the audit", min_length=1
        ),
    ],
    committed: Annotated[
        date | None,
        Field(title="Committed go-live", description="The date promised to the customer"),
    ] = None,
    owner: Annotated[str, Field(title="Owner", description="Who of us answers for the whole")] = "",
    step: Annotated[
        str,
        Field(
            title="Step",
            description="The step that the next three fields are about, by its title or id",
        ),
    ] = "",
    due: Annotated[
        date | None, Field(title="Due date of the step", description="When the step is to be done")
    ] = None,
    earliest: Annotated[
        date | None,
        Field(
            title="Earliest date of the step", description="The step cannot begin before this day"
        ),
    ] = None,
    waiting_on: Annotated[
        str, Field(title="Owner of the step", description="A person, or us, customer, makini")
    ] = "",
    system: Annotated[
        str,
        Field(
            title="System",
            description="The system whose host and port change; empty if there is only one",
        ),
    ] = "",
    target: Annotated[
        str,
        Field(
            title="Host and port", description="Where the system is reached, as host:port or URL"
        ),
    ] = "",
    on_hold: Annotated[
        Literal["no change", "put on hold", "carry on"],
        Field(title="On hold", description="On hold nothing new opens; open steps stay open"),
    ] = "no change",
    reason: Annotated[
        str, Field(title="Reason", description="Needed to put it on hold; kept in the audit")
    ] = "",
) -> State[None]:
    """Change dates or owners of an implementation; only what you fill in is changed."""
    if not step.strip() and (due or earliest or waiting_on.strip()):
        return refused("step", "is empty.", "Enter the title of the step that is to change.")
    wanted = [
        Update(
            implementation, action, by, gate=gate, reason=reason, which_date=which, day=day, to=to
        )
        for action, gate, which, day, to, given in (
            ("move", "", "committed", committed, "", committed),
            ("reassign", "", "committed", None, owner, owner.strip()),
            ("move", step, "due", due, "", due),
            ("move", step, "earliest", earliest, "", earliest),
            ("reassign", step, "committed", None, waiting_on, waiting_on.strip()),
            ("target", system, "committed", None, target, target.strip()),
            ("hold", "", "committed", None, "", on_hold == "put on hold"),
            ("resume", "", "committed", None, "", on_hold == "carry on"),
        )
        if given
    ]
    if not wanted:
        return refused("form", "nothing is to be changed.", "Fill in a date, an owner or a target.")
    return await carry_out("change", *wanted)
