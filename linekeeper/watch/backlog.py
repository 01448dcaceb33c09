"""Whether what is for people is delivered: some consumer lives, and nothing due is overdue."""

from datetime import timedelta
from typing import Any

from sqlalchemy import bindparam, exists, select
from sqlalchemy.orm import aliased
from sqlmodel import col

from linekeeper.store import Store
from linekeeper.store.tables import Outbox, PartHeartbeat
from linekeeper.store.types import UtcDateTime


async def is_consumed(store: Store, after: timedelta) -> bool:
    """Whether a consumer was heard of within `after`, and no message for Slack waits for longer.

    A message that waits for the one before it, or for another attempt, is not overdue.
    """
    async with store.read() as session:
        since = await store.clock(session) - after
        if await session.scalar(_LIVES, {"since": since}) is None:
            return False
        overdue = await session.scalar(_OVERDUE, {"since": since})
    return overdue is None


_SINCE: Any = bindparam("since", type_=UtcDateTime)
_LIVES = (
    select(col(PartHeartbeat.part))
    .where(col(PartHeartbeat.kind) == "consumer", col(PartHeartbeat.at) > _SINCE)
    .limit(1)
)
_EARLIER = aliased(Outbox)
_OVERDUE = (
    select(col(Outbox.id))
    .where(
        col(Outbox.channel) == "slack",
        col(Outbox.status) == "pending",
        col(Outbox.next_attempt_at) < _SINCE,
        ~exists().where(
            col(_EARLIER.lane) == col(Outbox.lane),
            col(_EARLIER.status) == "pending",
            col(_EARLIER.seq) < col(Outbox.seq),
        ),
    )
    .limit(1)
)
