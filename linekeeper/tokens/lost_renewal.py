"""A pair that was sent to be renewed, whose answer was lost, and that Makini then refused.

Makini has probably replaced it (MAKINI "Link"): the new pair is lost, and the old one is dead. So a
login is needed, though the customer has changed nothing.
"""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import and_, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.store.engine import chunked
from linekeeper.store.tables import Credential
from linekeeper.store.types import UtcDateTime, table_of

RENEWAL_LOST = "renewal_lost"
"""What an incident of a lost login is called by whose pair this became of."""
IS_RENEWAL_LOST = and_(
    col(Credential.refresh_unanswered_since).is_not(None), col(Credential.refused_at).is_not(None)
)
_LOST = select(col(Credential.connection_id)).where(
    col(Credential.connection_id).in_(bindparam("ids", expanding=True)), IS_RENEWAL_LOST
)

_NOTE_REFRESHING = (
    update(table_of(Credential))
    .where(table_of(Credential).c.connection_id == bindparam("of"))
    .values(
        renewing_since=bindparam("since", type_=UtcDateTime),
        refresh_unanswered_since=bindparam("unanswered", type_=UtcDateTime),
    )
)


async def note_refreshing(
    session: AsyncSession, connection_id: str, since: datetime | None, unanswered: datetime | None
) -> None:
    """Remember since when the pair is in doubt, and since when no answer to a refresh is known."""
    times = {"since": since, "unanswered": unanswered}
    await session.execute(_NOTE_REFRESHING, {"of": connection_id, **times})


async def lost_renewals(session: AsyncSession, connection_ids: Collection[str]) -> set[str]:
    """Those of the connections whose pair was lost so."""
    lost: set[str] = set()
    for ids in chunked(sorted(connection_ids), 10_000):
        lost.update(await session.scalars(_LOST, {"ids": ids}))
    return lost
