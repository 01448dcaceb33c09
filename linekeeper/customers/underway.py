"""Connections that are being implemented: alerts of them wait for the go-live.

Only those that came after their implementation was started: what was in use before it stays
watched as it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.chunks import chunked
from linekeeper.store.tables import Connection, Implementation, ImplementationSystem

_CAME_WITH = (
    select(
        col(Connection.id),
        col(Implementation.title),
        col(Implementation.started_at),
        col(Implementation.live_at),
    )
    .join(ImplementationSystem, col(ImplementationSystem.connection_id) == col(Connection.id))
    .join(Implementation, col(Implementation.id) == col(ImplementationSystem.implementation_id))
    .where(
        col(Connection.id).in_(bindparam("ids", expanding=True)),
        col(Connection.created_at) >= col(Implementation.started_at),
        col(Implementation.status) != "abandoned",
    )
)


@dataclass(frozen=True, slots=True)
class Underway:
    """From when until when (UTC) a connection was being implemented, and as part of what."""

    title: str
    since: datetime
    live_at: datetime | None
    """Its go-live; None: still ahead."""


async def implemented(session: AsyncSession, connections: Sequence[str]) -> dict[str, Underway]:
    """Those of `connections` that came with an implementation, and with which.

    One that was abandoned counts no more.
    """
    found: dict[str, Underway] = {}
    for ids in chunked(connections, 5_000):
        rows = await session.execute(_CAME_WITH, {"ids": ids})
        found |= {row[0]: Underway(row[1], row[2], row[3]) for row in rows}
    return found
