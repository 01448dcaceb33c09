"""Forgetting a customer: people, mails and names go, the numbers stay.

Names are replaced by a pseudonym wherever they stand in text of ours; contacts go; bodies of
webhooks and records, which are the customer's own, are emptied. Nothing of it can be undone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from slugify import slugify
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import SQLModel, col

from linekeeper.access.listing import forget_listings
from linekeeper.customers.find import NotFound
from linekeeper.store import Store
from linekeeper.store.core import table_of
from linekeeper.store.tables import (
    Audit,
    Connection,
    Contact,
    Customer,
    Outbox,
    Record,
    WebhookEvent,
)

_IDS_AT_ONCE = 500
_PROSE: dict[str, tuple[str, ...]] = {
    "audit": ("subject", "detail"),
    "incident": ("title", "summary", "message", "detail"),
    "incident_entry": ("text",),
    "outbox": ("payload",),
    "observation": ("message",),
    "transition": ("evidence",),
    "silence": ("label", "reason"),
    "run_alert": ("subject", "run_name", "state_message"),
    "credit_entry": ("subject", "note"),
    "implementation": ("title", "slug", "held_because"),
    "implementation_system": ("name",),
    "gate": ("title", "evidence", "note", "assignee", "owner", "skipped_because"),
    "preflight_report": ("target", "verdicts", "source"),
}
"""The columns with text that people read; no status, key or other word that is read back."""
_READ_BACK = {"do", "kind", "status", "channel", "op", "type", "template", "step"}


@dataclass(frozen=True, slots=True)
class Erased:
    """What went, or would."""

    label: str
    """What the customer is called from now on."""
    contacts: int
    connections: int
    texts: int
    """Rows in which a name was replaced."""
    bodies: int
    live: int
    """Connections that Makini still lists: what it calls them comes back with its list."""


class Eraser:
    """Replaces `names`, longest first and as whole words, by `pseudonym`. Pure.

    A name of somebody else that contains one of them stays as it is.
    """

    def __init__(self, names: Sequence[str], others: Sequence[str], pseudonym: str) -> None:
        wanted = {name.casefold() for name in names if name.strip()}
        longer = [other for other in others if any(name in other.casefold() for name in wanted)]
        kept = [name for name in longer if name.casefold() not in wanted]
        self.names = sorted({name for name in names if name.strip()}, key=len, reverse=True)
        alternatives = [*sorted(kept, key=len, reverse=True), *self.names]
        words = "|".join(re.escape(name) for name in alternatives) or r"(?!)"
        self._pattern = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)
        self._kept = {name.casefold() for name in kept}
        self._pseudonym = pseudonym

    def text(self, value: str) -> str:
        """`value` without the names."""
        return self._pattern.sub(self._replaced, value)

    def value(self, value: Any) -> Any:
        """JSON without the names; words that are read back stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(entry) for entry in value]
        if isinstance(value, dict):
            return {
                key: entry if key in _READ_BACK else self.value(entry)
                for key, entry in value.items()
            }
        return value

    def _replaced(self, found: re.Match[str]) -> str:
        return found[0] if found[0].casefold() in self._kept else self._pseudonym


async def erase_customer(
    store: Store, name: str, *, by: str, now: datetime, dry_run: bool = False
) -> Erased:
    """Forget the customer called exactly `name`. Raises `NotFound`.

    One transaction: all of it, or nothing. What waits to be mailed to its people is not sent.
    """
    async with store.write() as session:
        customer = await session.scalar(select(Customer).where(col(Customer.name) == name.strip()))
        if customer is None:
            raise NotFound(f"no customer is called exactly {name.strip()!r}")
        connections = list(
            await session.scalars(
                select(Connection).where(col(Connection.customer_id) == customer.id)
            )
        )
        contacts = list(
            await session.scalars(select(Contact).where(col(Contact.customer_id) == customer.id))
        )
        others = await session.scalars(
            select(col(Customer.name)).where(col(Customer.id) != customer.id)
        )
        label = f"Erased customer {customer.id[-8:]}"
        eraser = Eraser(_names(customer, connections, contacts), list(others), label)
        ids = [connection.id for connection in connections]
        if dry_run:
            bodies = await _bodies(session, ids, erase=False)
        else:
            await _keep_from_sending(session, eraser, now)
            bodies = await _bodies(session, ids, erase=True)
            await session.execute(delete(Contact).where(col(Contact.customer_id) == customer.id))
            await forget_listings(session)
            _rename(customer, connections, label)
            await session.flush()
        texts = await _texts(session, eraser, erase=not dry_run)
        if not dry_run:
            detail = {"connections": len(ids), "contacts": len(contacts)}
            session.add(
                Audit(at=now, by=by, action="customer.erased", subject=customer.id, detail=detail)
            )
        live = sum(connection.setup != "disconnected" for connection in connections)
        return Erased(label, len(contacts), len(ids), texts, bodies, live)


def _names(
    customer: Customer, connections: Sequence[Connection], contacts: Sequence[Contact]
) -> list[str]:
    """Everything that says who it is."""
    names = [customer.name, customer.slug, *customer.aliases]
    for contact in contacts:
        names += [contact.email, contact.name]
    for connection in connections:
        names += [connection.name, connection.email, connection.slug]
    return [name for name in dict.fromkeys(names) if name and len(name) > 2]


def _rename(customer: Customer, connections: Sequence[Connection], label: str) -> None:
    customer.name, customer.slug = label, slugify(label)
    customer.aliases, customer.owner = [], None
    for connection in connections:
        connection.name = f"{label} {connection.id[-8:]}"
        connection.slug = slugify(connection.name)
        connection.email, connection.tags = "", []


async def _keep_from_sending(session: AsyncSession, eraser: Eraser, now: datetime) -> None:
    rows = await session.scalars(
        select(Outbox).where(col(Outbox.status) == "pending", col(Outbox.channel) == "mail")
    )
    for row in rows:
        if eraser.value(row.payload) != row.payload:
            row.status, row.settled_at, row.error = "skipped", now, "the customer was erased"


async def _bodies(session: AsyncSession, ids: Sequence[str], *, erase: bool) -> int:
    count = 0
    for model, column in ((WebhookEvent, "body"), (Record, "body")):
        table = table_of(model)
        for start in range(0, len(ids), _IDS_AT_ONCE):
            which = table.c.connection_id.in_(ids[start : start + _IDS_AT_ONCE])
            held = [which, table.c[column].is_not(None)]
            if model is WebhookEvent:
                held.append(table.c.status != "pending")
            found = await session.scalar(select(func.count()).select_from(table).where(*held))
            count += found or 0
            if erase:
                values: dict[str, Any] = {column: None}
                if model is WebhookEvent:
                    values["headers"] = None
                await session.execute(update(table).where(*held).values(values))
    return count


async def _texts(session: AsyncSession, eraser: Eraser, *, erase: bool) -> int:
    """Replace the names wherever people read them; how many rows had one."""
    changed = 0
    for name, texts in _PROSE.items():
        table = SQLModel.metadata.tables[name]
        columns = [table.c[text] for text in texts]
        keys = list(table.primary_key.columns)
        rows = (await session.execute(select(*keys, *columns))).all()
        for row in rows:
            held = row[len(keys) :]
            values = {
                column.name: new
                for column, old in zip(columns, held, strict=True)
                if old is not None and (new := eraser.value(old)) != old
            }
            if not values:
                continue
            changed += 1
            if erase:
                same = [key == value for key, value in zip(keys, row[: len(keys)], strict=True)]
                await session.execute(update(table).where(*same).values(values))
    return changed
