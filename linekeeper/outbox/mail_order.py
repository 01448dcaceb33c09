"""The order of a customer's mails: what may wait for days holds up nothing that is urgent."""

from sqlalchemy import bindparam, select, update

from linekeeper.outbox.queue import OUTBOX
from linekeeper.store import Store

CHANNEL = "email"
IN_WORKING_HOURS = frozenset({"ending", "remind", "setup"})
"""What a customer gets in its working hours, however long it had to wait; each kind has an order
of its own."""


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
