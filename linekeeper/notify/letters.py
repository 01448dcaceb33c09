"""Mails to a customer that no incident asks for, as things are when they go out."""

from collections.abc import Mapping

from sqlalchemy import select
from sqlmodel import col

from linekeeper.access.links import link_url
from linekeeper.access.page_links import page_address, page_url, working_link
from linekeeper.access.pending import kept_login, kept_logins
from linekeeper.access.signing import Signer
from linekeeper.clock import utcnow, zone_of
from linekeeper.config import AppConfig
from linekeeper.customers.find import recipients
from linekeeper.customers.own_names import own_names
from linekeeper.notify.mail_text import SystemToLogIn, compose
from linekeeper.notify.smtp import Letter
from linekeeper.outbox.sender import OutboxRow
from linekeeper.store import Store
from linekeeper.store.modes import chosen_for, is_customer_written_to, is_written_to
from linekeeper.store.tables import (
    Connection,
    ConnectLink,
    Credential,
    Customer,
)


async def ending_letter(
    store: Store,
    row: OutboxRow,
    signer: Signer,
    public_url: str,
    apps: Mapping[str, AppConfig],
) -> Letter | None:
    """The mail `row` asks for; None where nobody needs to log in any more.

    Nor where the login is lost already: then its incident asks for it. Nor where somebody has
    logged in and Makini is still to confirm it.
    """
    customer_id, ids = row.payload["customer_id"], row.payload["connections"]
    now = utcnow()
    async with store.read() as session:
        customer = await session.get(Customer, customer_id)
        addresses = await recipients(session, customer_id)
        names = await own_names(session, customer_id)
        rows = (
            await session.execute(
                select(Connection, col(Credential.expires_at), ConnectLink)
                .join(Credential, col(Credential.connection_id) == col(Connection.id))
                .join(ConnectLink, col(ConnectLink.connection_id) == col(Connection.id))
                .where(
                    col(Connection.id).in_(ids),
                    col(Connection.setup) != "disconnected",
                    col(Connection.health) != "reauthorization_required",
                    col(Connection.unlisted_since).is_(None),  # gone at Makini, perhaps
                    col(Credential.refused_at).is_not(None),
                    col(ConnectLink.used_at).is_(None),
                    col(ConnectLink.expires_at) > now,
                )
                .order_by(col(ConnectLink.expires_at), col(ConnectLink.id))
            )
        ).all()
        kept = await kept_logins(session, ids)
    if customer is None:
        return None
    zone = zone_of(customer.time_zone)
    systems = {
        connection.id: SystemToLogIn(
            names.get(connection.id) or connection.provider or connection.name,
            ends_at.astimezone(zone),
            link_url(signer, public_url, link.id),
        )
        for connection, ends_at, link in rows
        if connection.id not in kept
        and ends_at is not None
        and ends_at > now
        and is_written_to(apps, connection.app, connection)
    }
    if not systems:
        return None
    text = compose(
        "ending",
        customer.name,
        list(systems.values()),
        until=min(system.since for system in systems.values()),
        locale=customer.locale,
        reminder=bool(row.payload.get("reminder")),
        page=await page_address(store, customer_id, signer, public_url, now=now),
    )
    return Letter(addresses, text.subject, text.body, text.html, f"ending.{ids[0]}.{customer_id}")


async def setup_letter(
    store: Store,
    row: OutboxRow,
    signer: Signer,
    public_url: str,
    apps: Mapping[str, AppConfig],
) -> Letter | None:
    """The mail `row` asks for; None where its link was used, has ended or was taken back.

    Nor where somebody has logged in and Makini is still to confirm it.
    """
    customer_id, link_id = row.payload["customer_id"], row.payload["link_id"]
    async with store.read() as session:
        customer = await session.get(Customer, customer_id)
        link = await session.get(ConnectLink, link_id)
        addresses = await recipients(session, customer_id)
        if link is None or await kept_login(session, link) is not None:
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


async def page_letter(
    store: Store,
    row: OutboxRow,
    signer: Signer,
    public_url: str,
    apps: Mapping[str, AppConfig],
) -> Letter | None:
    """The mail `row` asks for; None where its link was revoked meanwhile, or nobody is to be
    written to any more."""
    customer_id = row.payload["customer_id"]
    async with store.read() as session:
        page = await working_link(session, row.payload["link_id"])
        addresses = await recipients(session, customer_id)
        if page is None or not await is_customer_written_to(session, apps, customer_id):
            return None
    link, customer = page
    url = page_url(signer, public_url, link.id)
    text = compose("page", customer.name, (), until=None, locale=customer.locale, page=url)
    return Letter(addresses, text.subject, text.body, text.html, f"page.{link.id}")


OF_NO_INCIDENT = {"ending": ending_letter, "setup": setup_letter, "page": page_letter}
"""The letters about no incident, by what their rows say is to be done."""
