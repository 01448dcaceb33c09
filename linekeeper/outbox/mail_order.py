"""The order of a customer's mails: what may wait for days holds up nothing that is urgent, and a
reminder does not come with what it reminds of."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.outbox.queue import OUTBOX
from linekeeper.outbox.sender import OutboxRow
from linekeeper.store import Store

CHANNEL = "email"
IN_WORKING_HOURS = frozenset({"ending", "remind", "setup"})
"""What a customer gets in its working hours, however long it had to wait; each kind has an order
of its own."""

APART = timedelta(hours=12)
"""A reminder comes so long after what it reminds of, or not at all: where nothing of Linekeeper
ran for days, or the mail server took nothing, both were due at once."""


def mail_ordering_key(do: str, customer_id: str) -> str:
    """The order in which a mail of the kind `do` to a customer goes out."""
    return f"email:{do}:{customer_id}" if do in IN_WORKING_HOURS else f"email:{customer_id}"


async def keep_in_order(store: Store) -> None:
    """Give mails that wait the order of this version, where a version before gave them another."""
    async with store.read() as session:
        mails = (await session.execute(_WAITING)).all()
    orders = [
        {"row_id": row_id, "order": order}
        for row_id, before, payload in mails
        if (customer_id := payload.get("customer_id"))
        and (order := mail_ordering_key(payload["do"], customer_id)) != before
    ]
    if orders:
        async with store.write() as session:
            await session.execute(_REORDER, orders)


_WAITING = select(OUTBOX.c.id, OUTBOX.c.ordering_key, OUTBOX.c.payload).where(
    OUTBOX.c.channel == CHANNEL, OUTBOX.c.status == "pending"
)
_REORDER = (
    update(OUTBOX)
    .where(OUTBOX.c.id == bindparam("row_id"), OUTBOX.c.status == "pending")
    .values(ordering_key=bindparam("order"))
)


def mails_to(customer_id: str) -> ColumnElement[bool]:
    """Whether a message is a mail to that customer, whatever it is for."""
    orders = {mail_ordering_key(do, customer_id) for do in ("ask", *IN_WORKING_HOURS)}
    is_one: ColumnElement[bool] = OUTBOX.c.ordering_key.in_(sorted(orders))
    return is_one


async def hand_over_mails(session: AsyncSession, before: str, after: str) -> None:
    """Mails to the customer `before` count as ones to `after`, those that have gone included."""
    mails = await session.execute(select(OUTBOX.c.id, OUTBOX.c.payload).where(mails_to(before)))
    handed_over = [
        {
            "row_id": row_id,
            "order": mail_ordering_key(payload["do"], after),
            "about": {**payload, "customer_id": after},
        }
        for row_id, payload in mails
    ]
    if handed_over:
        await session.execute(_HAND_OVER, handed_over)


_HAND_OVER = (
    update(OUTBOX)
    .where(OUTBOX.c.id == bindparam("row_id"))
    .values(
        ordering_key=bindparam("order"),
        payload=bindparam("about", type_=OUTBOX.c.payload.type),
    )
)


def is_reminder(row: OutboxRow) -> bool:
    """Whether it asks again for what another mail asked for."""
    return row.payload["do"] == "remind" or bool(row.payload.get("reminder"))


async def is_written_to_anyway(store: Store, row: OutboxRow, *, now: datetime) -> bool:
    """Whether another mail about the same went out just before this reminder, or while it waited,
    or is to go."""
    about, customer_id = row.payload, row.payload["customer_id"]
    since = min(row.created_at, now - APART)
    async with store.read() as session:
        others = await session.execute(
            select(OUTBOX.c.payload, OUTBOX.c.status, OUTBOX.c.settled_at).where(
                OUTBOX.c.ordering_key.in_(
                    {row.ordering_key, mail_ordering_key("ask", customer_id)}
                ),
                OUTBOX.c.status.in_(("sent", "pending", "superseded")),
            )
        )
        for payload, status, settled_at in others:
            if not _is_about_the_same(payload, about):
                continue
            if status == "superseded" and payload["do"] != "ask":
                continue  # a reminder that nobody got; an ask was in another mail
            if status == "pending" and payload["do"] != about["do"]:
                return True
            if settled_at is not None and settled_at > since:
                return True
    return False


def _is_about_the_same(mail: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two mails to a customer are about one loss, one login to set up, or one that ends."""
    return all(mail.get(name) == other.get(name) for name in _ABOUT)


_ABOUT = ("incident_id", "attempt", "customer_id", "link_id", "connections")
