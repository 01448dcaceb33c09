"""The link to a customer's own page: when it was opened, where to get it, or revoked."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.customer_page.links import read_seen, revoke_link
from linekeeper.customers.find import NotFound
from linekeeper.markdown import text
from tasks.reconnect import publish
from tasks.run import open_runtime, refused, rename


@flow(name="customer-link", flow_run_name="customer-link", retries=0)
@form
async def customer_link(
    customer: Annotated[
        str, Field(title="Customer", description="Its name", examples=["Acme Metals"], min_length=1)
    ],
    by: Annotated[
        str, Field(title="Your name", description="Who asks; kept in the audit", min_length=1)
    ],
    revoke: Annotated[
        bool,
        Field(
            title="Revoke",
            description="End every link there is; the next one, or the next mail, makes a new one",
        ),
    ] = False,
) -> State[None]:
    """Say when a customer opened their own page, and where its link is; or revoke the link.

    The link itself is in no artifact: it needs no login and works until it is revoked, so that it
    is a secret, and Prefect keeps what it is given in plain text. `linekeeper customer link` prints
    it, and mails to the customer have it.
    """
    async with open_runtime() as rt:
        try:
            if revoke:
                ended = await revoke_link(rt.store, customer, by=by, now=utcnow())
            else:
                seen = await read_seen(rt.store, customer)
        except NotFound as error:
            return refused("customer", error, "Correct it and send the form again.")
        if revoke:
            said = f"{ended.customer}: {ended.links} links revoked"
            await publish("customer-link", f"# {text(said)}\n", description=said)
            await rename(f"customer-link · {said}")
            return Completed(message=said)
        await publish(
            "customer-link",
            f"# {text(seen.customer)}\n\nThe customer's own page: {seen.in_words}.\n\nIts link is "
            "a secret of this customer's, so it is not shown here: `linekeeper customer link NAME` "
            "prints it, and mails to the customer have it.\n",
            description=seen.customer,
        )
        await rename(f"customer-link · {seen.customer}: {seen.in_words}")
        return Completed(message=f"{seen.customer}: {seen.in_words}")
