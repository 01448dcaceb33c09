"""Contacts that people are asked to confirm: whoever logged in."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.csv_cells import is_mail_address
from linekeeper.store import Store, new_id
from linekeeper.store.engine import chunked, insert_ignore
from linekeeper.store.tables import Contact, Customer


async def propose_contacts(
    store: Store, session: AsyncSession, rows: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Propose who logged in as a contact; nobody is mailed there until it is confirmed."""
    wanted = {
        (row["customer_id"], row["email"].strip().lower())
        for row in rows
        if row["customer_id"] and is_mail_address(row["email"].strip())
    }
    if not wanted:
        return []
    owners = sorted({owner for owner, _ in wanted})
    names: dict[str, str] = {}
    have: set[tuple[str, str]] = set()
    for portion in chunked(owners, 10_000):
        named = await session.execute(
            select(col(Customer.id), col(Customer.name)).where(col(Customer.id).in_(portion))
        )
        names |= {row[0]: row[1] for row in named}
        contacts = await session.execute(
            select(col(Contact.customer_id), col(Contact.email)).where(
                col(Contact.customer_id).in_(portion)
            )
        )
        have |= {(row[0], row[1].lower()) for row in contacts}
    new = sorted(wanted - have)
    await insert_ignore(
        store,
        session,
        Contact,
        [
            {"id": new_id(), "customer_id": owner, "name": "", "email": email, "confirmed": False}
            for owner, email in new
        ],
    )
    return [f"{names[owner]}: {email}" for owner, email in new]
