"""The outbox rows by which health says that an incident may need a customer.

What is asked, of whom and by which link depends on settings and is worked out where they are at
hand (`linekeeper.reconnect.ask`), moments later and from the incident as it is then. The row is
written in the incident's own transaction, so nothing is lost in between.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlmodel import col, select

from linekeeper.outbox.queue import Message
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Outbox

CHANNEL = "reconnect"


def request_reconnects(incident_ids: Iterable[str]) -> list[Message]:
    """Rows that have each incident looked at; a repeat is harmless."""
    return [
        Message(
            CHANNEL,
            f"reconnect:{incident_id}:{new_id()}",
            {"incident_id": incident_id},
            lane=f"reconnect:{incident_id}",
        )
        for incident_id in dict.fromkeys(incident_ids)
    ]


async def is_due(store: Store, channel: str, *, now: datetime) -> bool:
    """Whether a row of `channel` is due: a look that takes no write lock."""
    async with store.read() as session:
        found = await session.scalar(
            select(Outbox.id)
            .where(
                col(Outbox.channel) == channel,
                col(Outbox.status) == "pending",
                col(Outbox.next_attempt_at) <= now,
            )
            .limit(1)
        )
        return found is not None
