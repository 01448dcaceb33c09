"""Change the dates or the owner of an implementation that is underway."""

from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from flows.form import CommittedDay, Day, Implementation, day_of, form
from linekeeper.implementation.change import Update
from linekeeper.refusal import Refusal
from tasks.implementation_change import carry_out
from tasks.run import refused

_WHAT = "Fill in a date, an owner, a host and port, or On hold."


@flow(name="implementation-change", flow_run_name="change {implementation}", retries=0)
@form
async def implementation_change(
    implementation: Implementation,
    by: Annotated[
        str,
        Field(
            title="Your name", description="Who changes it; it is kept in the audit", min_length=1
        ),
    ],
    committed: CommittedDay = None,
    owner: Annotated[
        str, Field(title="Owner", description="Who of your team is responsible for the whole")
    ] = "",
    step: Annotated[
        str,
        Field(
            title="Step",
            description="The step that the next three fields are about, by its title or id",
        ),
    ] = "",
    due: Annotated[
        Day | None, Field(title="Due date of the step", description="When the step is to be done")
    ] = None,
    earliest: Annotated[
        Day | None,
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
    try:
        days = {
            "committed": day_of("committed", committed),
            "due": day_of("due", due),
            "earliest": day_of("earliest", earliest),
        }
    except Refusal as error:
        return refused(error.field, error, "Pick it in the calendar.")
    of_step = {"due": days["due"], "earliest": days["earliest"], "waiting_on": waiting_on.strip()}
    if not step.strip() and any(of_step.values()):
        return refused("step", "it is empty.", "Enter the title of the step that is to change.")
    dates = [
        Update(
            implementation,
            "move",
            by,
            gate="" if name == "committed" else step,
            reason=reason,
            which_date=name,
            day=day,
            fields={"date": name, "gate": "step"},
        )
        for name, day in days.items()
        if day is not None
    ]
    others = [
        Update(implementation, action, by, gate=gate, reason=reason, to=to, fields=fields)
        for action, gate, to, fields, given in (
            ("reassign", "", owner, {"to": "owner"}, owner.strip()),
            (
                "reassign",
                step,
                waiting_on,
                {"to": "waiting_on", "gate": "step"},
                waiting_on.strip(),
            ),
            ("target", system, target, {"to": "target", "gate": "system"}, target.strip()),
            ("hold", "", "", {}, on_hold == "put on hold"),
            ("resume", "", "", {}, on_hold == "carry on"),
        )
        if given
    ]
    if not dates and not others:
        return refused("committed", "nothing is to be changed.", _WHAT)
    return await carry_out("change", *dates, *others)
