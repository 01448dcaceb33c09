"""Logins that came and can't be verified yet, as those who look at a lost login need to know."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.store.statements import chunked
from linekeeper.store.tables import ConnectAttempt, ConnectLink, PendingLogin

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class KeptLogin:
    """A login that is kept until Makini says whose it is."""

    at: datetime
    is_system_away: bool
    """When it came, Makini took it and the customer's system did not answer Makini."""


async def kept_logins(
    session: AsyncSession, connection_ids: Collection[str]
) -> dict[str, KeptLogin]:
    """The newest kept login of each of these connections; those without one are left out."""
    found: dict[str, KeptLogin] = {}
    for ids in chunked(sorted(set(connection_ids)), _AT_ONCE):
        some = col(ConnectLink.connection_id).in_(ids)
        for connection_id, at, outcome in await session.execute(_KEPT.where(some)):
            found[connection_id] = KeptLogin(at, outcome == "system_away")
    return found


async def kept_login(session: AsyncSession, link: ConnectLink) -> KeptLogin | None:
    """The newest kept login by this link, or by another one of its connection."""
    mine = [col(ConnectLink.id) == link.id]
    if link.connection_id is not None:
        mine.append(col(ConnectLink.connection_id) == link.connection_id)
    rows = (await session.execute(_KEPT.where(or_(*mine)))).all()
    return KeptLogin(rows[-1][1], rows[-1][2] == "system_away") if rows else None


_OUTCOME = (
    select(col(ConnectAttempt.outcome))
    .where(
        col(ConnectAttempt.link_id) == col(PendingLogin.link_id),
        col(ConnectAttempt.at) <= col(PendingLogin.received_at),
    )
    .order_by(col(ConnectAttempt.at).desc())
    .limit(1)
    .scalar_subquery()
)
_KEPT = (
    select(col(ConnectLink.connection_id), col(PendingLogin.received_at), _OUTCOME)
    .join(ConnectLink, col(ConnectLink.id) == col(PendingLogin.link_id))
    .order_by(col(PendingLogin.received_at), col(PendingLogin.id))
)
