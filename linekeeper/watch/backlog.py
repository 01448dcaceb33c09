"""Whether what is for people is delivered: some consumer lives, and nothing due is overdue."""

from datetime import timedelta

from sqlalchemy import exists, select
from sqlalchemy.orm import aliased
from sqlmodel import col

from linekeeper.store import Store
from linekeeper.store.tables import Outbox, PartHeartbeat


async def is_consumed(store: Store, after: timedelta) -> bool:
    """Whether a consumer was heard of within `after`, and no message for Slack waits for longer.

    A message that waits for the one before it, or for another attempt, is not overdue.
    """
    earlier = aliased(Outbox)
    async with store.read() as session:
        now = await store.clock(session)
        lives = await session.scalar(
            select(col(PartHeartbeat.part))
            .where(col(PartHeartbeat.kind) == "consumer", col(PartHeartbeat.at) > now - after)
            .limit(1)
        )
        if lives is None:
            return False
        overdue = await session.scalar(
            select(col(Outbox.id))
            .where(
                col(Outbox.channel) == "slack",
                col(Outbox.status) == "pending",
                col(Outbox.next_attempt_at) < now - after,
                ~exists().where(
                    col(earlier.lane) == col(Outbox.lane),
                    col(earlier.status) == "pending",
                    col(earlier.seq) < col(Outbox.seq),
                ),
            )
            .limit(1)
        )
    return overdue is None
