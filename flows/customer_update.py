"""Changing what is known of one customer, and the link to their own page, by a form."""

from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.form import form
from linekeeper.clock import utcnow
from linekeeper.customer_page.links import NotMailed, mail_link, read_seen, revoke_link
from linekeeper.customers.change import BadChange, CustomerChange, change_customer
from linekeeper.customers.find import NotFound
from linekeeper.runtime import Runtime
from linekeeper.text import counted
from tasks.run import open_runtime, refused, rename

Page = Literal["leave", "show", "mail", "revoke"]


@flow(name="customer-update", flow_run_name="customer-update", retries=0)
@form
async def customer_update(
    customer: Annotated[
        str, Field(title="Customer", description="Its name", examples=["Acme Metals"], min_length=1)
    ],
    by: Annotated[str, Field(title="Your name", description="Who changes it", min_length=1)],
    contacts: Annotated[
        str,
        Field(
            title="Contacts to add",
            description="Who is mailed when a login is lost: `Ann <ann@acme.example>; bob@…`",
        ),
    ] = "",
    remove_contacts: Annotated[
        str, Field(title="Contacts to remove", description="Their mail addresses")
    ] = "",
    time_zone: Annotated[
        str,
        Field(
            title="Time zone",
            description="Reminders come in its working hours",
            examples=["Europe/Berlin"],
        ),
    ] = "",
    locale: Annotated[
        str,
        Field(
            title="Language",
            description="Such as `en` or `de-CH`. Where there are no texts, English is written",
            examples=["en"],
        ),
    ] = "",
    owner: Annotated[
        str,
        Field(
            title="Owner",
            description="Who looks after it here: `Petra Novak <U0123ABCD>`, or only the name, or "
            "only the id in Slack",
        ),
    ] = "",
    critical: Annotated[
        Literal["leave", "yes", "no"],
        Field(title="Critical", description="Critical customers come first and are probed often"),
    ] = "leave",
    confirm_contacts: Annotated[
        bool,
        Field(
            title="Confirm proposed contacts",
            description="The adoption proposes who logged in; nobody is mailed there before this",
        ),
    ] = False,
    hosting: Annotated[
        Literal["leave", "cloud", "on-premises", "self-hosted"],
        Field(title="Hosting", description="Of its systems; the credits follow"),
    ] = "leave",
    tier: Annotated[
        Literal["leave", "I", "II", "III"],
        Field(title="Tier", description="Makini's tier of its systems; the credits follow"),
    ] = "leave",
    system: Annotated[
        str,
        Field(
            title="System",
            description="Hosting and tier are of this one only; empty: all of the customer",
            examples=["SAP ECC"],
        ),
    ] = "",
    same_as: Annotated[
        str,
        Field(
            title="Is the same as",
            description="The customer that this one turned out to be, such as `Acme Metals` for "
            "`ACME Metals Inc`: connections, contacts and implementations go over to it",
        ),
    ] = "",
    page: Annotated[
        Page,
        Field(
            title="Their page",
            description="The customer's own page. *show* says when it was opened and answered; "
            "*mail* sends its link to the customer's confirmed contacts; *revoke* ends every link "
            "there is. The link itself is a secret: `linekeeper customer link` prints it",
        ),
    ] = "leave",
) -> State[None]:
    """Change one customer: contacts, time zone, owner, critical, hosting, tier; or join two.

    What is left empty stays as it is. The same again changes nothing. The link to the customer's
    own page needs no login and works until it is revoked, so that it is a secret, and Prefect
    keeps what it is given in plain text: neither the run nor an artifact has it.
    """
    change = CustomerChange(
        contacts=contacts,
        remove_contacts=remove_contacts,
        time_zone=time_zone,
        locale=locale,
        owner=owner,
        critical="" if critical == "leave" else critical,
        confirm_contacts=confirm_contacts,
        hosting="" if hosting == "leave" else hosting,
        tier="" if tier == "leave" else tier,
        system=system,
        same_as=same_as,
    )
    async with open_runtime() as rt:
        try:
            name, changed = await change_customer(
                rt.store, customer, change, by=by.strip(), now=utcnow()
            )
        except (NotFound, BadChange) as error:
            return refused("customer", error, "Correct it and send the form again.")
        said = list(changed)
        try:
            if page != "leave":
                said.append(await _page(rt, name, page, by.strip()))
        except NotMailed as error:
            then = "Do that, and send the form again."
            return refused("page", error, then, kept="; ".join(changed))
        await rename(
            f"customer-update · {name}: {said[-1] if page != 'leave' else f'{len(said)} changed'}"
        )
        return Completed(message=f"{name}: {'; '.join(said) or 'nothing to change'}")


async def _page(rt: Runtime, customer: str, page: Page, by: str) -> str:
    """Do it with the link to the customer's page; returns it in words. Raises `NotMailed`."""
    match page:
        case "mail":
            contacts = await mail_link(rt, customer, by=by, now=utcnow())
            return f"the link is mailed to {counted(contacts, 'contact')}"
        case "revoke":
            ended = await revoke_link(rt.store, customer, by=by, now=utcnow())
            return f"{counted(ended.links, 'link')} revoked"
        case _:
            return await read_seen(rt.store, customer)
