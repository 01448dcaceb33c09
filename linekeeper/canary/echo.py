"""What became of a canary in here, and the product's word that it got it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field, col

from linekeeper.answers import Answer, UtcTime
from linekeeper.inbox.meaning import CANARY
from linekeeper.outbox.forward import CHANNEL
from linekeeper.store import Store
from linekeeper.store.lists import update_many
from linekeeper.store.tables import Outbox, WebhookEvent
from linekeeper.store.types import is_id

Forward = Literal["none", "pending", "sent", "dead"]
MOST_CHARACTERS = 200


class Canary(Answer):
    """One canary's way so far; a time is null for what has not come yet."""

    id: str
    status: str
    received_at: UtcTime
    processed_at: UtcTime | None
    forward: Forward = Field(
        description="`none` where there is nobody to hand it on to, or it is not processed yet"
    )
    forwarded_at: UtcTime | None
    forward_error: str | None
    echoed_at: UtcTime | None


async def read_canary(store: Store, wanted: str, apps: Iterable[str]) -> Canary | None:
    """The canary with our event's id, or the canary's own, `wanted`; None if there is none."""
    async with store.read() as session:
        return await _read(session, wanted, apps)


async def note_echo(
    store: Store, wanted: str, apps: Iterable[str], *, now: datetime
) -> Canary | None:
    """Keep that the product got the canary `wanted`: the first time counts."""
    async with store.write() as session:
        canary = await _read(session, wanted, apps)
        if canary is not None and canary.echoed_at is None:
            await session.execute(
                update_many(WebhookEvent)
                .where(col(WebhookEvent.id) == canary.id, col(WebhookEvent.echoed_at).is_(None))
                .values(echoed_at=now)
            )
            canary = await _read(session, canary.id, apps)
        return canary


async def _read(session: AsyncSession, wanted: str, apps: Iterable[str]) -> Canary | None:
    if not wanted or len(wanted) > MOST_CHARACTERS or "\0" in wanted:
        return None
    # By its own id, which is all that a product sees that gets Makini's form, through the index.
    named: ColumnElement[bool] = col(WebhookEvent.app).in_(sorted(apps)) & (
        col(WebhookEvent.delivery_key) == wanted
    )
    event = await session.execute(
        select(
            col(WebhookEvent.id),
            col(WebhookEvent.status),
            col(WebhookEvent.received_at),
            col(WebhookEvent.processed_at),
            col(WebhookEvent.echoed_at),
        )
        .where(
            col(WebhookEvent.id) == wanted if is_id(wanted) else named,
            col(WebhookEvent.kind) == CANARY,
        )
        .order_by(col(WebhookEvent.id).desc())
        .limit(1)
    )
    row = event.first()
    if row is None:
        return None
    forwarded = await session.execute(
        select(col(Outbox.status), col(Outbox.settled_at), col(Outbox.error)).where(
            col(Outbox.dedupe_key) == f"{CHANNEL}:{row.id}"
        )
    )
    sent = forwarded.first()
    is_sent = sent is not None and sent.status == "sent"
    return Canary(
        id=row.id,
        status=row.status,
        received_at=row.received_at,
        processed_at=row.processed_at,
        forward=_forward(sent.status) if sent is not None else "none",
        forwarded_at=sent.settled_at if sent is not None and is_sent else None,
        forward_error=sent.error if sent is not None else None,
        echoed_at=row.echoed_at,
    )


def _forward(status: str) -> Forward:
    match status:
        case "pending" | "sent":
            return status
    return "dead"
