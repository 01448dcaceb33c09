"""Whether a login is known to be lost: who is about to be written to is asked first."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import bindparam, select
from sqlmodel import col

from linekeeper.access.pending import kept_logins
from linekeeper.reconnect.case import KIND
from linekeeper.runtime import Runtime
from linekeeper.store.engine import chunked
from linekeeper.store.tables import Connection, IncidentConnection
from linekeeper.sweep.recent import ask_where_old

_LOST = select(col(Connection.id)).where(
    col(Connection.id).in_(bindparam("connections", expanding=True)),
    col(Connection.health) == KIND,
)
_LOSSES = (
    select(col(IncidentConnection.incident_id), col(Connection.customer_id), col(Connection.id))
    .join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
    .where(
        col(IncidentConnection.incident_id).in_(bindparam("incidents", expanding=True)),
        col(Connection.health) == KIND,
        col(Connection.setup) != "disconnected",
    )
)


async def not_known_to_be_lost(
    rt: Runtime, connections: Collection[str], *, now: datetime
) -> set[str]:
    """Those of `connections` whose login works after all, or may: they are asked where what is
    known of it is old."""
    asked = await ask_where_old(rt, connections, now=now)
    lost: set[str] = set()
    async with rt.store.read() as session:
        for chunk in chunked(sorted(asked), 5_000):
            lost |= set(await session.scalars(_LOST, {"connections": chunk}))
    return {each for each, is_known in asked.items() if not is_known or each not in lost}


async def not_known_losses(
    rt: Runtime, losses: Collection[tuple[str, str]], *, now: datetime
) -> set[tuple[str, str]]:
    """Those of `losses`, each an incident and a customer, of which a login may work after all.

    Whoever was lost by old evidence is asked; what is lost by then is known, or found out to work.
    A loss is also one of these while somebody has just logged in to each of its connections.
    """
    incidents = {"incidents": sorted({incident for incident, _ in losses})}
    async with rt.store.read() as session:
        rows = (await session.execute(_LOSSES, incidents)).all()
        members = {row.id: (row.incident_id, row.customer_id) for row in rows}
        mine = {each for each, loss in members.items() if loss in losses}
        kept = await kept_logins(session, mine)
    lost = {each for each in mine if each not in kept or not kept[each].is_being_verified(now)}
    being_verified = {members[each] for each in mine} - {members[each] for each in lost}
    asked = await ask_where_old(rt, mine, now=now)
    return being_verified | {members[each] for each, is_known in asked.items() if not is_known}
