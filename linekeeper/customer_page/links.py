"""The link to a customer's page: made once, shown again, or revoked.

It needs no login and works until it is revoked, so it is a secret: the command line and mails to
the customer have it, Prefect, which keeps what it is given in plain text, has not. So a form in
Prefect can only have it mailed to the customer: whoever reaches Prefect can fill in a form, and one
that sent the link to an address typed there would give every customer's page to them.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlmodel import col

from linekeeper.access.page_links import page_link, page_url, revoke_links, seen_in_words
from linekeeper.access.signing import load_signer
from linekeeper.customers.find import find_customer, recipients
from linekeeper.outbox.mail_order import mail_ordering_key
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.modes import is_customer_written_to
from linekeeper.store.tables import Audit, CustomerLink, Outbox


@dataclass(frozen=True, slots=True)
class PageLink:
    """The address of a customer's page, and what the customer did there."""

    customer: str
    url: str
    seen: str
    """When it was opened and answered last, in words."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """How many links ended."""

    customer: str
    links: int


async def give_link(
    store: Store, public_url: str, name: str, *, by: str, now: datetime
) -> PageLink:
    """The link of the customer called `name`; made if there is none. Raises `NotFound`."""
    signer = await load_signer(store)
    async with store.write() as session:
        customer = await find_customer(session, name)
        link = await page_link(session, customer.id, by=by, now=now)
        return PageLink(
            customer.name,
            page_url(signer, public_url, link.id),
            seen_in_words(link),
        )


class NotMailed(Exception):
    """The link can't be mailed; the text says why, and what to do."""


async def mail_link(rt: Runtime, name: str, *, by: str, now: datetime) -> int:
    """Have the link mailed to the confirmed contacts of the customer called `name`: how many.

    Asked for twice within a minute it goes out once; for one run it does, however often and when
    workers take that. Raises `NotFound`, and `NotMailed` where
    there is no mail account, nobody to write to, or customers are not to be written to.
    """
    configuration = await rt.configuration()
    if configuration.mail is None:
        raise NotMailed("no mail account is configured: fill in the block Mail")
    async with rt.store.write() as session:
        customer = await find_customer(session, name)
        if not await is_customer_written_to(session, configuration.apps, customer.id):
            raise NotMailed(
                f"{customer.name} is not notified: switch that on for it (`linekeeper mode`), or "
                "in the block Makini App (mode manage, *Notify customers*), or pass the link on "
                "that `linekeeper customer link` prints"
            )
        addresses = await recipients(session, customer.id)
        if not addresses:
            raise NotMailed(
                f"{customer.name} has no contact that is confirmed: add one with customer-update"
            )
        link = await page_link(session, customer.id, by=by, now=now)
        payload = {"do": "page", "customer_id": customer.id, "link_id": link.id}
        key = f"email:page:{link.id}:{rt.store.run_id or f'{now:%Y-%m-%dT%H:%M}'}"
        if await session.scalar(select(col(Outbox.id)).where(col(Outbox.dedupe_key) == key)):
            return len(addresses)
        message = Message(
            "email", key, payload, ordering_key=mail_ordering_key("page", customer.id)
        )
        await enqueue(rt.store, session, [message], now=now)
        detail = {"contacts": len(addresses)}
        session.add(
            Audit(at=now, by=by, action="customer_link.mailed", subject=customer.id, detail=detail)
        )
        return len(addresses)


async def read_seen(store: Store, name: str) -> str:
    """When the page of the customer called `name` was opened and answered. Raises `NotFound`."""
    async with store.read() as session:
        customer = await find_customer(session, name)
        link = await session.scalar(
            select(CustomerLink)
            .where(
                col(CustomerLink.customer_id) == customer.id, col(CustomerLink.revoked_at).is_(None)
            )
            .order_by(col(CustomerLink.id).desc())
            .limit(1)
        )
        return seen_in_words(link) if link is not None else "no link works now"


async def revoke_link(store: Store, name: str, *, by: str, now: datetime) -> Revoked:
    """End every link of the customer called `name`. Raises `NotFound`."""
    async with store.write() as session:
        customer = await find_customer(session, name)
        return Revoked(customer.name, await revoke_links(session, customer.id, by=by, now=now))
