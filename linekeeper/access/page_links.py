"""The signed, revocable link to a customer's page."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.signing import Signer
from linekeeper.store import Store, new_id
from linekeeper.store.lists import update_many
from linekeeper.store.tables import Audit, Customer, CustomerLink

_PURPOSE = "customer-page"
_OPENED_EVERY = timedelta(hours=1)


def page_url(signer: Signer, public_url: str, link_id: str) -> str:
    """The page's address; the same link has the same address each time."""
    return f"{public_url}/customer/{signer.sign(_PURPOSE, UUID(link_id).bytes)}"


def read_token(signer: Signer, token: str) -> str | None:
    """The link's id in `token`, or None for a token we didn't sign."""
    payload = signer.open(_PURPOSE, token)
    return str(UUID(bytes=payload)) if payload is not None and len(payload) == 16 else None


async def page_link(
    session: AsyncSession, customer_id: str, *, by: str, now: datetime
) -> CustomerLink:
    """The customer's link that works; a new one, in the caller's transaction, if there is none."""
    existing = await session.scalar(
        select(CustomerLink)
        .where(col(CustomerLink.customer_id) == customer_id, col(CustomerLink.revoked_at).is_(None))
        .order_by(col(CustomerLink.id).desc())
        .limit(1)
    )
    if existing is not None:
        return existing
    link = CustomerLink(id=new_id(), customer_id=customer_id, created_at=now, created_by=by)
    session.add(link)
    session.add(Audit(at=now, by=by, action="customer_link.made", subject=customer_id))
    await session.flush()
    return link


def seen_in_words(link: CustomerLink) -> str:
    """When the customer opened the page and answered there, in words. Pure; times are UTC."""
    times = (("opened", link.opened_at), ("answered", link.answered_at))
    return ", ".join(
        f"{what} {at:%Y-%m-%d %H:%M} UTC" if at else f"not {what} yet" for what, at in times
    )


async def page_address(
    store: Store, customer_id: str, signer: Signer, public_url: str, *, now: datetime
) -> str:
    """The page's address for a mail; its link is made for the first one."""
    async with store.write() as session:
        link = await page_link(session, customer_id, by="linekeeper", now=now)
    return page_url(signer, public_url, link.id)


async def revoke_links(session: AsyncSession, customer_id: str, *, by: str, now: datetime) -> int:
    """End every link to the customer's page; returns how many worked until now."""
    ended = await session.scalars(
        update(CustomerLink)
        .where(col(CustomerLink.customer_id) == customer_id, col(CustomerLink.revoked_at).is_(None))
        .values(revoked_at=now)
        .returning(col(CustomerLink.id))
    )
    count = len(ended.all())
    if count:
        session.add(Audit(at=now, by=by, action="customer_link.revoked", subject=customer_id))
        await session.flush()
    return count


async def working_link(session: AsyncSession, link_id: str) -> tuple[CustomerLink, Customer] | None:
    """The link with its customer, unless it was revoked."""
    row = (
        await session.execute(
            select(CustomerLink, Customer)
            .join(Customer, col(Customer.id) == col(CustomerLink.customer_id))
            .where(col(CustomerLink.id) == link_id, col(CustomerLink.revoked_at).is_(None))
        )
    ).first()
    return (row[0], row[1]) if row is not None else None


def is_opening_news(link: CustomerLink, now: datetime) -> bool:
    """Whether an opening is worth writing down: once an hour is enough."""
    return link.opened_at is None or now - link.opened_at > _OPENED_EVERY


async def note_opening(session: AsyncSession, link_id: str, *, now: datetime) -> None:
    """Remember that the page was opened, for the operator to see."""
    await session.execute(
        update_many(CustomerLink)
        .where(
            col(CustomerLink.id) == link_id,
            or_(
                col(CustomerLink.opened_at).is_(None),
                col(CustomerLink.opened_at) < now - _OPENED_EVERY,
            ),
        )
        .values(opened_at=now, opens=col(CustomerLink.opens) + 1)
    )
