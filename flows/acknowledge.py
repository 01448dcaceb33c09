"""Saying that somebody has taken an incident, for teams without Slack."""

from contextlib import suppress
from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.form import form
from linekeeper.clock import utcnow, zone_of
from linekeeper.incidents import operate
from linekeeper.incidents.operate import NoIncident
from tasks.notify import NotDelivered, incident_ordering_keys, notify
from tasks.run import open_runtime, refused, rename


@flow(name="acknowledge", flow_run_name="acknowledge", retries=0)
@form
async def acknowledge(
    incident: Annotated[
        str, Field(title="Incident", description="Its id; links in messages fill it in")
    ],
    by: Annotated[str, Field(title="Your name", description="Who takes it", min_length=1)],
    snooze: Annotated[
        Literal["no", "1 hour", "4 hours", "Monday"],
        Field(title="Snooze", description="Hold reminders back until then"),
    ] = "no",
) -> State[None]:
    """Acknowledge an incident, and perhaps snooze it.

    Sweeps don't turn red for it again.
    """
    async with open_runtime() as rt:
        identifier, name = incident.strip(), by.strip()
        try:
            sentence = await operate.acknowledge(rt.store, identifier, by=name, now=utcnow())
        except NoIncident as error:
            return refused("incident", error, "Enter the id of an open incident.")
        if snooze != "no":
            zone = zone_of((await rt.configuration()).alerts.time_zone)
            try:
                sentence = await operate.snooze(
                    rt.store, identifier, snooze, by=name, now=utcnow(), zone=zone
                )
            except NoIncident as error:  # it was resolved meanwhile
                sentence = f"{sentence}, and not snoozed: {error}"
        await rename(f"acknowledge · {sentence}")
        with suppress(NotDelivered):  # said already; the deliverer is the net
            await notify(incident_ordering_keys([identifier]))
        return Completed(message=sentence)
