"""Configurations whose run was lost before it had verified them."""

from collections.abc import Collection
from datetime import datetime

from sqlmodel import col, select

from linekeeper.customers.setup import ESTABLISHED
from linekeeper.implementation import successor, work
from linekeeper.store import Store
from linekeeper.store.tables import Connection, WorkflowConfiguration


async def restart_lost(
    store: Store, alive: Collection[str], *, before: datetime, now: datetime
) -> int:
    """Verify on what no run verifies any more; returns how many runs were started.

    `alive` are the ids and idempotency keys of the unfinished runs, as listed at `before`. What an
    open gate asks for is started for the gate.
    """
    started = 0
    async with store.write() as session:
        rows = await session.scalars(
            select(WorkflowConfiguration)
            .join(Connection, col(Connection.id) == col(WorkflowConfiguration.connection_id))
            .where(
                col(WorkflowConfiguration.verified_at).is_(None),
                col(WorkflowConfiguration.run_id).is_not(None),
                col(WorkflowConfiguration.configured_at) < before,
                col(Connection.setup).in_(ESTABLISHED),
            )
        )
        for row in rows.all():
            connection_id, run_id = row.connection_id, row.run_id or ""
            if await work.is_asked_for(
                session, "workflow-configuration", connection_id=connection_id
            ):
                continue
            started += await successor.follow_up(
                store,
                session,
                "workflow-configuration",
                run_id,
                {"connection": connection_id, "by": work.BY_LINEKEEPER},
                alive=alive,
                before=before,
                now=now,
            )
    return started
