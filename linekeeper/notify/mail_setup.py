"""The mail to a customer whose login is to be set up, as things are when it goes out."""

from collections.abc import Mapping

from linekeeper.access.links import link_url
from linekeeper.access.page_links import page_address
from linekeeper.access.signing import Signer
from linekeeper.clock import utcnow, zone_of
from linekeeper.config import AppConfig
from linekeeper.customers.contacts import recipients
from linekeeper.notify.mail_text import SystemToLogIn, compose
from linekeeper.notify.smtp import Letter
from linekeeper.outbox.sender import OutboxRow
from linekeeper.store import Store
from linekeeper.store.modes import chosen_for, is_written_to
from linekeeper.store.tables import ConnectLink, Customer


async def setup_letter(
    store: Store,
    row: OutboxRow,
    signer: Signer,
    public_url: str,
    apps: Mapping[str, AppConfig],
) -> Letter | None:
    """The mail `row` asks for; None where its link was used, has ended or was taken back."""
    customer_id, link_id = row.payload["customer_id"], row.payload["link_id"]
    async with store.read() as session:
        customer = await session.get(Customer, customer_id)
        link = await session.get(ConnectLink, link_id)
        addresses = await recipients(session, customer_id)
        if link is None:
            return None
        chosen = await chosen_for(
            session, link.app, connection_id=link.connection_id, customer_id=customer_id
        )
    if not is_written_to(apps, link.app, chosen):
        return None
    if customer is None or link.used_at or link.expires_at <= utcnow():
        return None
    zone = zone_of(customer.time_zone)
    url = link_url(signer, public_url, link.id)
    text = compose(
        "setup",
        customer.name,
        [SystemToLogIn(link.system, link.created_at.astimezone(zone), url)],
        until=link.expires_at.astimezone(zone),
        locale=customer.locale,
        reminder=bool(row.payload.get("reminder")),
        page=await page_address(store, customer.id, signer, public_url, now=utcnow()),
    )
    return Letter(addresses, text.subject, text.body, text.html, f"setup.{link.id}")
