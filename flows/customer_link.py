"""The link to a customer's own page: shown, or revoked."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.customer_page.links import give_link, revoke_link
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
    """Show the link to a customer's own page, and when it was opened; or revoke it.

    The link is in the artifact `customer-link`. Nothing is mailed.
    """
    async with open_runtime() as rt:
        try:
            if revoke:
                ended = await revoke_link(rt.store, customer, by=by, now=utcnow())
            else:
                public_url = rt.settings.resolved_public_url
                link = await give_link(rt.store, public_url, customer, by=by, now=utcnow())
        except NotFound as error:
            return refused("customer", error, "Correct it and send the form again.")
        if revoke:
            said = f"{ended.customer}: {ended.links} links revoked"
            await publish("customer-link", f"# {text(said)}\n", description=said)
            await rename(f"customer-link · {said}")
            return Completed(message=said)
        await publish(
            "customer-link",
            f"# {text(link.customer)}\n\n[{link.url}]({link.url})\n\nFor this customer only, "
            f"until it is revoked. {link.seen.capitalize()}.\n",
            description=link.customer,
        )
        await rename(f"customer-link · {link.customer}: {link.seen}")
        return Completed(message="The link is in the artifact customer-link")
