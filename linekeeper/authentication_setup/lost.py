"""Set-ups whose run was lost before their login was verified."""

from collections.abc import Collection
from datetime import datetime

from sqlmodel import col, select

from linekeeper.implementation import successor, work
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.tables import AuthenticationSetup, Implementation, ImplementationSystem


async def restart_lost(
    store: Store, alive: Collection[str], *, before: datetime, now: datetime
) -> int:
    """Go on with the set-ups that no run sees to any more; returns how many runs were started.

    `alive` are the ids and idempotency keys of the unfinished runs, as listed at `before`. What an
    open gate asks for is started for the gate.
    """
    started = 0
    async with store.write() as session:
        rows = await session.scalars(
            select(AuthenticationSetup).where(
                col(AuthenticationSetup.ended_at).is_(None),
                col(AuthenticationSetup.started_at) < before,
            )
        )
        for row in rows.all():
            if await work.is_asked_for(
                session,
                "authentication-setup",
                connection_id=row.connection_id,
                system_id=row.system_id,
            ):
                continue
            parameters = {"by": work.BY_LINEKEEPER}
            if row.connection_id is not None:
                parameters["connection"] = row.connection_id
            else:
                system = await session.get_one(ImplementationSystem, row.system_id)
                held = await session.get_one(Implementation, system.implementation_id)
                parameters |= {"implementation": held.slug, "system": system.name}
            started += await successor.follow_up(
                store,
                session,
                "authentication-setup",
                row.run_id,
                parameters,
                alive=alive,
                before=before,
                now=now,
            )
    return started


async def take_over(rt: Runtime, lost: str, run_id: str) -> bool:
    """Go on with the set-up of the run `lost`; False where it is over, or another run's."""
    async with rt.store.write() as session:
        rows = await session.scalars(
            select(AuthenticationSetup).where(
                col(AuthenticationSetup.run_id) == lost,
                col(AuthenticationSetup.ended_at).is_(None),
            )
        )
        row = rows.first()
        if row is None:
            return False
        await work.hand_over(session, lost, run_id)
        row.run_id, row.waits_for = run_id, None
        return True
