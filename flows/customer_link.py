"""The link to a customer's own page: mailed to the customer, looked at, or revoked."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.customer_page.links import NotMailed, mail_link, read_seen, revoke_link
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
    mail: Annotated[
        bool,
        Field(
            title="Mail it to the customer",
            description="Send the link to the customer's confirmed contacts",
        ),
    ] = False,
    revoke: Annotated[
        bool,
        Field(
            title="Revoke",
            description="End every link there is; the next one, or the next mail, makes a new one",
        ),
    ] = False,
) -> State[None]:
    """Mail a customer the link to their own page, say when they opened it, or revoke the link.

    The link itself is in no artifact: it needs no login and works until it is revoked, so that it
    is a secret, and Prefect keeps what it is given in plain text. It is mailed to the customer's
    confirmed contacts only; `linekeeper customer link` prints it.
    """
    async with open_runtime() as rt:
        try:
            if revoke and mail:
                return refused("mail", "A link is either mailed or revoked", "Choose one of them.")
            if mail:
                mailed = await mail_link(rt, customer, by=by, now=utcnow())
                said = f"{mailed.customer}: the link is mailed to {mailed.contacts} contacts"
                await rename(f"customer-link · {said}")
                return Completed(message=said)
            if revoke:
                ended = await revoke_link(rt.store, customer, by=by, now=utcnow())
            else:
                seen = await read_seen(rt.store, customer)
        except NotFound as error:
            return refused("customer", error, "Correct it and send the form again.")
        except NotMailed as error:
            return refused("mail", error, "Do that, and send the form again.")
        if revoke:
            said = f"{ended.customer}: {ended.links} links revoked"
            await publish("customer-link", f"# {text(said)}\n", description=said)
            await rename(f"customer-link · {said}")
            return Completed(message=said)
        await publish(
            "customer-link",
            f"# {text(seen.customer)}\n\nThe customer's own page: {seen.in_words}.\n\nIts link is "
            "a secret of this customer's, so it is not shown here: `linekeeper customer link NAME` "
            "prints it, and *Mail it to the customer* sends it to their contacts.\n",
            description=seen.customer,
        )
        await rename(f"customer-link · {seen.customer}: {seen.in_words}")
        return Completed(message=f"{seen.customer}: {seen.in_words}")
