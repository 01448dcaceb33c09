"""The link to a customer's page, as the desk gives it: made once, shown again, or revoked."""

from dataclasses import dataclass
from datetime import datetime

from linekeeper.access.page_links import page_link, page_url, revoke_links, seen_in_words
from linekeeper.access.signing import load_signer
from linekeeper.customers.find import find_customer
from linekeeper.store import Store


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


async def revoke_link(store: Store, name: str, *, by: str, now: datetime) -> Revoked:
    """End every link of the customer called `name`. Raises `NotFound`."""
    async with store.write() as session:
        customer = await find_customer(session, name)
        return Revoked(customer.name, await revoke_links(session, customer.id, by=by, now=now))
