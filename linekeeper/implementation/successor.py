"""A run that goes on with what a lost one had begun, where no gate asks for it.

A set-up and a configuration go on after their gate is settled, and need no implementation at all.
Their rows name the run that sees to them; where that run is gone, another takes its place. What
makes it one run is whose place it takes, and the hour: one that is lost before it begins is
followed by another.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.implementation.plan import Work
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store import Store
from linekeeper.store.tables import Outbox

PREFIX = "after:"
"""What the idempotency key of such a run begins with."""


def lost_run(idempotency_key: str | None) -> str | None:
    """Whose place the run with that key takes; None: it takes nobody's. Pure."""
    if not (idempotency_key or "").startswith(PREFIX):
        return None
    return (idempotency_key or "").removeprefix(PREFIX).partition(":")[0]


async def follow_up(
    store: Store,
    session: AsyncSession,
    work: Work,
    run_id: str,
    parameters: dict[str, Any],
    *,
    alive: Collection[str],
    before: datetime,
    now: datetime,
) -> bool:
    """Start a run of `work` in the place of `run_id`; returns whether it was started.

    `alive` are the ids and idempotency keys of the unfinished runs, as listed at `before`. Where
    the run is alive, or one that takes its place is or comes, none is started.
    """
    mine = f"{PREFIX}{run_id}:"
    if run_id in alive or any(name.startswith(mine) for name in alive):
        return False
    coming = await session.scalar(
        select(col(Outbox.id)).where(
            col(Outbox.dedupe_key).startswith(mine),
            or_(col(Outbox.status) == "pending", col(Outbox.settled_at) >= before),
        )
    )
    if coming is not None:
        return False
    key = f"{mine}{now:%Y%m%d%H}"
    payload = {"deployment": work, "idempotency_key": key, "parameters": parameters}
    await enqueue(store, session, [Message("run", key, payload)], now=now)
    return True
