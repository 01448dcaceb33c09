"""Which records the deliveries named, processed or not."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.inbox.meaning import RECORD_KINDS
from linekeeper.inbox.sealing import kept_keys
from linekeeper.store.tables import WebhookEvent

_AT_ONCE = 1_000


async def delivered_since(
    session: AsyncSession,
    connection_id: str,
    entity: str,
    ordering_keys: Sequence[str],
    *,
    since: datetime,
) -> dict[str, datetime]:
    """When the newest delivery came that named each record of `entity`, of those since `since`.

    `ordering_keys` are those its deliveries wait in until it is known whose they are.
    """
    first_at: dict[str, datetime] = {}
    after = ""
    while True:
        statement = (
            select(
                col(WebhookEvent.id),
                col(WebhookEvent.received_at),
                col(WebhookEvent.body),
                col(WebhookEvent.body_keys),
            )
            .where(
                or_(
                    and_(
                        col(WebhookEvent.connection_id) == connection_id,
                        col(WebhookEvent.received_at) >= since,
                    ),
                    and_(
                        col(WebhookEvent.status) == "pending",
                        col(WebhookEvent.ordering_key).in_(ordering_keys),
                    ),
                ),
                col(WebhookEvent.kind).in_(RECORD_KINDS),
                col(WebhookEvent.source) == "webhook",  # a replay is no delivery
                or_(col(WebhookEvent.entity) == entity, col(WebhookEvent.entity).is_(None)),
            )
            .order_by(col(WebhookEvent.id))
            .limit(_AT_ONCE)
        )
        if after:
            statement = statement.where(col(WebhookEvent.id) > after)
        rows = (await session.execute(statement)).all()
        for _, received_at, body, body_keys in rows:
            for key in kept_keys(body, body_keys):
                first_at[key] = max(received_at, first_at.get(key, received_at))
        if len(rows) < _AT_ONCE:
            return first_at
        after = rows[-1][0]
