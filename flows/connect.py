"""A connect link without an incident."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.form import form
from linekeeper.access.invite import BadInvitation, Invitation, invite_again, invite_new
from linekeeper.clock import utcnow
from linekeeper.customers.find import NotFound
from linekeeper.makini import ReadOnlyApp
from linekeeper.runtime import Runtime, UnknownApp
from linekeeper.views.connect_link_page import connect_link_markdown
from tasks.reconnect import publish
from tasks.run import open_runtime, refused, rename


@flow(name="connect", flow_run_name="connect", retries=0)
@form
async def connect(
    customer: Annotated[
        str,
        Field(
            title="Customer",
            description="The customer of the new system; a new name creates the customer",
        ),
    ] = "",
    system: Annotated[
        str, Field(title="System", description="The system to connect", examples=["UpKeep"])
    ] = "",
    connection: Annotated[
        str,
        Field(
            title="Connection",
            description="Instead: a known connection, to renew its login before it ends",
        ),
    ] = "",
    by: Annotated[
        str, Field(title="Your name", description="Who asks; it is kept in the audit")
    ] = "",
    app: Annotated[str, Field(title="App", description="The Makini app")] = "default",
) -> State[None]:
    """Make a link by which a customer logs in. Pass it on; it is good for 7 days, once.

    The link is in the artifact `connect-link`. Nothing is mailed. Asked for again before anybody
    has logged in by it, it is the same link, good for 7 days from then.
    """
    async with open_runtime() as rt:
        try:
            made = await _invite(rt, customer, system, connection, by.strip(), app)
        except (NotFound, BadInvitation, ReadOnlyApp, UnknownApp) as error:
            field = "connection" if connection.strip() else "app"
            return refused(field, error, "Correct it and send the form again.")
        await publish(
            "connect-link",
            connect_link_markdown(made.for_whom, made.url, made.expires_at, made.made_before),
            description=made.for_whom,
        )
        await rename(f"connect · {made.for_whom}")
        message = f"The link for {made.for_whom} is in the artifact connect-link."
        return Completed(message=f"{message} {made.made_before}".strip())


async def _invite(
    rt: Runtime, customer: str, system: str, connection: str, by: str, app: str
) -> Invitation:
    who = by or "connect form"
    if connection.strip():
        return await invite_again(rt, connection, by=who, now=utcnow())
    return await invite_new(rt, customer, system, app=app, by=who, now=utcnow())
