"""Planned work, or trouble that is known: observed and recorded, not announced."""

from datetime import timedelta
from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.form import Moment, form, moment_of
from linekeeper.clock import utcnow
from linekeeper.customers.find import NotFound
from linekeeper.incidents import operate
from linekeeper.incidents.operate import NoIncident
from linekeeper.refusal import Refusal
from linekeeper.text import counted
from tasks.run import open_runtime, refused, rename


@flow(name="maintenance-window", flow_run_name="maintenance-window", retries=0)
@form
async def maintenance_window(
    scope: Annotated[
        Literal["connection", "customer", "provider", "all", "incident"],
        Field(title="Of what", description="What the window covers"),
    ],
    by: Annotated[str, Field(title="Your name", description="Who says so", min_length=1)],
    subject: Annotated[
        str,
        Field(
            title="Subject",
            description="A connection's or customer's name, a provider, or an incident's id; "
            "empty for all",
            examples=["Acme · SAP ECC"],
        ),
    ] = "",
    action: Annotated[
        Literal["begin", "mute", "end"],
        Field(
            title="What to do",
            description="Begin a maintenance window, mute what is known, or end either now",
        ),
    ] = "begin",
    hours: Annotated[
        float, Field(title="Hours", description="How long it lasts", gt=0, le=2160)
    ] = 2,
    starts: Annotated[
        Moment | None, Field(title="Starts", description="Empty: now. UTC unless it says else")
    ] = None,
    reason: Annotated[
        str, Field(title="Reason", description="What is being done, for the record", max_length=500)
    ] = "",
) -> State[None]:
    """Record trouble of a connection, customer, provider or all, and notify nobody.

    What is still wrong when it ends is notified then. Sweeps go on; their runs show what they find.
    One incident can be muted, or its mute ended.
    """
    now = utcnow()
    async with open_runtime() as rt:
        try:
            start = moment_of("starts", starts) or now
            if scope == "incident":
                lasts = 0 if action == "end" else hours
                sentence = await operate.mute(
                    rt.store, subject.strip(), lasts, by=by.strip(), now=now
                )
                await rename(f"maintenance-window · {sentence}")
                return Completed(message=sentence)
            if action == "end":
                target, ended = await operate.end(
                    rt.store, scope, subject, by=by.strip(), now=utcnow()
                )
                many = counted(ended, "window")
                said = f"{many} ended" if ended else "no window is open"
                sentence = f"{said} for {target.label}"
                await rename(f"maintenance-window · {sentence}")
                return Completed(message=sentence)
            target = await operate.begin(
                rt.store,
                scope,
                subject,
                kind="mute" if action == "mute" else "maintenance",
                starts_at=start,
                lasts=timedelta(hours=hours),
                by=by.strip(),
                reason=reason.strip(),
                now=now,
            )
        except (NotFound, Refusal, NoIncident) as error:
            return refused("subject", error, "Correct it and send the form again.")
    until = max(start, now) + timedelta(hours=hours)
    what = "muted" if action == "mute" else "maintenance"
    await rename(f"maintenance-window · {target.label} until {until:%a %H:%M} UTC")
    return Completed(
        message=f"{what}: {target.label} ({counted(target.reach, 'connection')}) from "
        f"{max(start, now):%Y-%m-%d %H:%M} until {until:%Y-%m-%d %H:%M} UTC"
    )
