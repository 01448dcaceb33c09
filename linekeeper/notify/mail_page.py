"""The mail that gives a customer the address of their own page."""

from linekeeper.access.page_links import page_url, working_link
from linekeeper.access.signing import Signer
from linekeeper.customers.contacts import recipients
from linekeeper.notify.mail_text import compose
from linekeeper.notify.smtp import Letter
from linekeeper.outbox.sender import OutboxRow
from linekeeper.store import Store


async def page_letter(
    store: Store, row: OutboxRow, signer: Signer, public_url: str
) -> Letter | None:
    """The mail `row` asks for; None where its link was revoked meanwhile."""
    async with store.read() as session:
        found = await working_link(session, row.payload["link_id"])
        addresses = await recipients(session, row.payload["customer_id"])
    if found is None:
        return None
    link, customer = found
    url = page_url(signer, public_url, link.id)
    text = compose("page", customer.name, (), until=None, locale=customer.locale, page=url)
    return Letter(addresses, text.subject, text.body, text.html, f"page.{link.id}")
