"""Who consumes: each says so every few seconds, and takes over what one that died had claimed.

Without it what a dead consumer held would wait for its claims to run out. Taking a claim from one
that only seemed dead is safe: whoever settles proves that the claim is still its own.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, literal_column, or_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from linekeeper.store import Store
from linekeeper.store.engine import insert_or_update
from linekeeper.store.leases import CONSUMER, IS_CONSUMERS, lease_name
from linekeeper.store.lists import update_many
from linekeeper.store.tables import Lease, Outbox, WebhookEvent
from linekeeper.store.types import UtcDateTime

BEAT_SECONDS = 2.0
DEAD_AFTER = timedelta(seconds=7)
"""After this silence a consumer is dead: with the beat another one has its work within 10 s."""


_DEAD = (
    select(Lease.owner)
    .where(IS_CONSUMERS, col(Lease.until) < bindparam("now", type_=UtcDateTime))
    .with_for_update(skip_locked=True)
)
"""Those whose row nobody else writes at this moment: it says that it lives, or is taken over."""


async def beat(store: Store, owner: str) -> list[str]:
    """Say that `owner` consumes; returns the owners found dead, whose claims are free now."""
    async with store.write() as session:
        now = await store.clock(session)
        row: dict[str, Any] = {"name": lease_name(CONSUMER, owner), "kind": CONSUMER}
        row |= {"subject": owner, "owner": owner, "until": now + DEAD_AFTER, "fence": 0}
        await insert_or_update(store, session, Lease, [row], key=["name"], update=["until"])
        dead = list(await session.scalars(_DEAD, {"now": now}))
        await _release(session, dead, now)
    return dead


async def retire(store: Store, owner: str) -> None:
    """Say that `owner` ends: what it had claimed is free at once."""
    async with store.write() as session:
        await _release(session, [owner], await store.clock(session))


async def _release(session: AsyncSession, owners: Iterable[str], now: datetime) -> None:
    for owner in owners:
        for table in (WebhookEvent, Outbox):
            await session.execute(
                update_many(table)
                .where(
                    col(table.status) == literal_column("'pending'"),  # the partial index's word
                    or_(col(table.claim_owner) == owner, _of_before(table, owner)),
                )
                .values(claimed_by=None, claim_owner=None, next_attempt_at=now)
            )
        await session.execute(delete(Lease).where(col(Lease.name) == lease_name(CONSUMER, owner)))


def _of_before(table: type[WebhookEvent | Outbox], owner: str) -> ColumnElement[bool]:
    """Whether `owner` claimed a row as versions before migration 0074 do: the name says whose.

    A process of that version may claim while this one takes over, and leaves the column as the
    claim before had it. Once no migration `serves` a schema before 0074 any more, the column is
    enough.
    """
    of_owner: ColumnElement[bool] = col(table.claimed_by).startswith(f"{owner}/", autoescape=True)
    return of_owner
