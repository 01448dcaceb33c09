"""The link to a customer's page: made once, shown again, or revoked.

It needs no login and works until it is revoked, so it is a secret: the command line and mails to
the customer have it, Prefect, which keeps what it is given in plain text, has not.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlmodel import col

from linekeeper.access.page_links import page_link, page_url, revoke_links, seen_in_words
from linekeeper.access.signing import load_signer
from linekeeper.customers.find import find_customer
from linekeeper.store import Store
from linekeeper.store.tables import CustomerLink


@dataclass(frozen=True, slots=True)
class PageLink:
    """The address of a customer's page, and what the customer did there."""

    customer: str
    url: str
    seen: str
    """When it was opened and answered last, in words."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a customer did with the link that works."""

    customer: str
    in_words: str


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


async def read_seen(store: Store, name: str) -> Seen:
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
        return Seen(customer.name, seen_in_words(link) if link is not None else "no link works now")


async def revoke_link(store: Store, name: str, *, by: str, now: datetime) -> Revoked:
    """End every link of the customer called `name`. Raises `NotFound`."""
    async with store.write() as session:
        customer = await find_customer(session, name)
        return Revoked(customer.name, await revoke_links(session, customer.id, by=by, now=now))
