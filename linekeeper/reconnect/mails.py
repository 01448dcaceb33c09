"""Mails to customers about the case of a lost login."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.reachable import with_contacts
from linekeeper.outbox.about import attempt_of
from linekeeper.outbox.mail_order import mail_ordering_key
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.reconnect.case import Member
from linekeeper.store import Store
from linekeeper.store.engine import chunked
from linekeeper.store.tables import Outbox
from linekeeper.text import named


def mail(incident_id: str, attempt: int, customer_id: str, do: str, *which: str) -> Message:
    """A mail to a customer about an incident: `ask`, `remind`, `again` or `thank`, `which` once."""
    key = ":".join(("email", incident_id, str(attempt), customer_id, do, *which))
    order = mail_ordering_key(do, customer_id)
    payload: dict[str, Any] = {"do": do, "incident_id": incident_id}
    payload |= {"attempt": attempt, "customer_id": customer_id}
    return Message("email", key, payload, order, kind="mail", subject=incident_id)


async def waiting_to_go(
    session: AsyncSession, case: tuple[str, int], customers: Iterable[str]
) -> dict[str, str]:
    """Of `customers` those who are asked in the case (incident and attempt) by a mail that nobody
    has taken in hand: with its key. It will name all of their systems that need a login then.
    """
    incident, attempt = case
    key_of: dict[str, str] = {}
    for chunk in chunked([mail_ordering_key("ask", customer) for customer in customers], 5_000):
        mails = await session.execute(
            select(col(Outbox.payload), col(Outbox.dedupe_key)).where(
                col(Outbox.ordering_key).in_(chunk),
                col(Outbox.channel) == "email",
                col(Outbox.status) == "pending",
                col(Outbox.claimed_by).is_(None),
            )
        )
        key_of |= {
            payload["customer_id"]: key
            for payload, key in mails
            if (payload["do"], payload.get("incident_id")) == ("ask", incident)
            and attempt_of(payload, key) == attempt
        }
    return key_of


async def ask_once(
    store: Store,
    session: AsyncSession,
    case: tuple[str, int],
    members: Sequence[Member],
    *,
    now: datetime,
) -> list[str]:
    """Mail whose customers made a new connection at Makini itself, of which there is no token.

    Their data may flow at Makini as ever: so it is one mail that says what is needed of them,
    however often their case (incident and attempt) is looked at, and no reminder. Where another
    mail of theirs waits, that names it as well (`outbox.mail_together`). Returns what operators
    should know of it, once.
    """
    mails = {
        (member.customer_id, member.customer): replace(
            mail(*case, member.customer_id, "ask"),
            dedupe_key=f"email:{member.customer_id}:anew:{member.connection_id}",
        )
        for member in members
        if member.customer_id
    }
    keys = [message.dedupe_key for message in mails.values()]
    is_asked = select(col(Outbox.dedupe_key)).where(col(Outbox.dedupe_key).in_(keys))
    known = set(await session.scalars(is_asked)) if keys else set[str]()
    fresh = {whose: message for whose, message in mails.items() if message.dedupe_key not in known}
    reachable = await with_contacts(session, [customer for customer, _ in fresh if customer])
    rows = [message for (customer, _), message in fresh.items() if customer in reachable]
    await enqueue(store, session, rows, now=now)
    mailed = sorted(str(name) for customer, name in fresh if customer in reachable)
    unnamed = sorted(
        str(member.customer)
        for member in members
        if member.link_id is None and member.customer_id not in reachable
    )
    said = [f"Nobody to mail: no contact is known of {named(unnamed)}."] if unnamed else []
    if mailed:
        said.append(f"Asked by mail for a login to the new connection: {named(mailed)}.")
    return said
