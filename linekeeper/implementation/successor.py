"""A run that goes on with what a lost one had begun, where no gate asks for it.

A set-up and a configuration go on after their gate is settled, and need no implementation at all.
Their rows name the run that sees to them; where that run is gone, another takes its place. What
makes it one run is whose place it takes, and the hour: one that is lost before it begins is
followed by another.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import or_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from linekeeper.customers.setup import ESTABLISHED
from linekeeper.implementation import work
from linekeeper.implementation.plan import Work
from linekeeper.outbox.about import followed_by_key, is_a
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.store import Store
from linekeeper.store.tables import (
    AuthenticationSetup,
    Connection,
    Implementation,
    ImplementationSystem,
    Outbox,
    WorkflowConfiguration,
)


@dataclass(frozen=True, slots=True)
class _Begun:
    """Work that is not over, and the run that sees to it."""

    work: Work
    run_id: str
    connection_id: str | None
    parameters: dict[str, Any]
    """What a run that goes on with it is started with."""
    system_id: str | None = None


async def lost_run(store: Store, idempotency_key: str | None) -> str | None:
    """Whose place the run with that key takes; None: it takes nobody's."""
    if idempotency_key is None:
        return None
    async with store.read() as session:
        row = (
            await session.execute(
                select(col(Outbox.kind), col(Outbox.subject)).where(
                    col(Outbox.dedupe_key) == idempotency_key
                )
            )
        ).first()
    if row is None or row.kind is None:
        return followed_by_key(idempotency_key)
    return row.subject if row.kind == "follow_up" else None


async def restart_lost(
    store: Store, alive: Collection[str], *, before: datetime, now: datetime
) -> int:
    """Go on with what no run sees to any more; returns how many runs were started.

    `alive` are the ids and idempotency keys of the unfinished runs, as listed at `before`. What an
    open gate asks for is started for the gate.
    """
    started = 0
    async with store.write() as session:
        for begun in [*await _setups(session, before), *await _configurations(session, before)]:
            if await work.is_asked_for(
                session, begun.work, connection_id=begun.connection_id, system_id=begun.system_id
            ):
                continue
            started += await _follow_up(store, session, begun, alive, before=before, now=now)
    return started


async def _setups(session: AsyncSession, before: datetime) -> Sequence[_Begun]:
    """Set-ups whose login is not verified."""
    rows = await session.scalars(
        select(AuthenticationSetup).where(
            col(AuthenticationSetup.ended_at).is_(None),
            col(AuthenticationSetup.started_at) < before,
        )
    )
    setups = []
    for row in rows.all():
        parameters = {"by": work.BY_LINEKEEPER}
        if row.connection_id is not None:
            parameters["connection"] = row.connection_id
        else:
            system = await session.get_one(ImplementationSystem, row.system_id)
            held = await session.get_one(Implementation, system.implementation_id)
            parameters |= {"implementation": held.slug, "system": system.name}
        setups.append(
            _Begun("authentication-setup", row.run_id, row.connection_id, parameters, row.system_id)
        )
    return setups


async def _configurations(session: AsyncSession, before: datetime) -> Sequence[_Begun]:
    """Configurations that are not verified, of connections that can be read."""
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
    return [
        _Begun(
            "workflow-configuration",
            row.run_id or "",
            row.connection_id,
            {"connection": row.connection_id, "by": work.BY_LINEKEEPER},
        )
        for row in rows.all()
    ]


async def _follow_up(
    store: Store,
    session: AsyncSession,
    begun: _Begun,
    alive: Collection[str],
    *,
    before: datetime,
    now: datetime,
) -> bool:
    """Start a run in the place of a lost one; returns whether it was started.

    Where that run is alive, or one that takes its place is or comes, none is started.
    """
    if begun.run_id in alive:
        return False
    followed = await session.scalars(
        select(Outbox.dedupe_key).where(
            col(Outbox.channel) == "run", is_a("follow_up", subject=begun.run_id)
        )
    )
    if any(key in alive for key in followed):
        return False
    coming = await session.scalar(
        select(col(Outbox.id)).where(
            col(Outbox.channel) == "run",
            is_a("follow_up", subject=begun.run_id),
            or_(col(Outbox.status) == "pending", col(Outbox.settled_at) >= before),
        )
    )
    if coming is not None:
        return False
    key = f"after:{begun.run_id}:{now:%Y%m%d%H}"
    payload = {"deployment": begun.work, "idempotency_key": key, "parameters": begun.parameters}
    message = Message("run", key, payload, kind="follow_up", subject=begun.run_id)
    await enqueue(store, session, [message], now=now)
    return True
