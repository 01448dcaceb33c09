"""What waits to be done, by who does it: one look for all, that takes no lock."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, bindparam, exists, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from linekeeper.store.tables import Outbox, WebhookEvent
from linekeeper.store.types import UtcDateTime

CONNECTION_WEBHOOKS = "connection webhooks"
RECORD_WEBHOOKS = "record webhooks"
CHANNELS = ("elsewhere", "email", "event", "forward", "reconnect", "run", "slack")
"""Of the outbox."""

_NOW: Any = bindparam("now", type_=UtcDateTime)


async def due(connection: AsyncConnection, *, now: datetime) -> Sequence[str]:
    """Of the webhooks and the channels, those with something that is due at `now`."""
    rows = await connection.execute(_LOOK, {"now": now})
    return [name for name, waits in rows.mappings().one().items() if waits]


def _webhooks(rank: int) -> ColumnElement[bool]:
    return exists().where(
        # Said in the statement itself, or SQLite doesn't use the index of those pending.
        col(WebhookEvent.status) == literal_column("'pending'"),
        col(WebhookEvent.rank) == rank,
        col(WebhookEvent.next_attempt_at) <= _NOW,
    )


def _channel(channel: str) -> ColumnElement[bool]:
    return exists().where(
        col(Outbox.channel) == channel,
        col(Outbox.status) == "pending",
        col(Outbox.next_attempt_at) <= _NOW,
    )


_LOOK = select(
    _webhooks(0).label(CONNECTION_WEBHOOKS),
    _webhooks(1).label(RECORD_WEBHOOKS),
    *(_channel(channel).label(channel) for channel in CHANNELS),
)
