"""Messages of channel `slack` that are due, to be divided among the Slack channels."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select

from linekeeper.outbox.queue import OUTBOX
from linekeeper.store.engine import Store

MOST = 2_000
"""So many are divided at a time, the oldest."""
_DUE = (
    select(OUTBOX.c.id, OUTBOX.c.payload)
    .where(
        OUTBOX.c.channel == "slack",
        OUTBOX.c.status == "pending",
        OUTBOX.c.next_attempt_at <= bindparam("now"),
    )
    .order_by(OUTBOX.c.next_attempt_at, OUTBOX.c.seq)
    .limit(MOST)
)


async def due_messages(store: Store, *, now: datetime) -> dict[str, dict[str, Any]]:
    """The payloads of the messages that are due, by their ids."""
    async with store.read() as session:
        rows = await session.execute(_DUE, {"now": now})
        return {row.id: row.payload for row in rows}


def incidents_of(payloads: Iterable[Mapping[str, Any]]) -> list[str]:
    """The ids of the incidents that messages are about."""
    return [i for payload in payloads if isinstance(i := payload.get("incident_id"), str)]
