"""What is known of a connection when a run begins to read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.health.scope import DataCaller
from linekeeper.reconcile.deletion_queries import agreed_of
from linekeeper.reconcile.marks import marks_of
from linekeeper.reconcile.target import PollTarget
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.tables import Succession, Watermark
from linekeeper.tokens.stored import load_tokens


@dataclass(frozen=True, slots=True)
class Known:
    """All of it as of one moment."""

    caller: DataCaller
    """What reads its records, with the token it has."""
    marks: Mapping[str, Watermark]
    """How far each entity has been read that somebody tried."""
    has_agreed: bool
    """Whether deletions that were agreed on are not written yet."""
    planned: Sequence[str]
    """The entities whose succession is planned and not carried out."""


async def read_known(rt: Runtime, target: PollTarget) -> Known:
    """All that a run needs to know of `target`, read at once."""
    async with rt.store.read() as session:
        agreed = await agreed_of(session, target.id)
        waiting = await waiting_of(session, target.id)
        marks = await marks_of(session, target.id)
        tokens = await load_tokens(rt.store, session, [target.id])
    caller = DataCaller(rt, target.app, target.id, target.ref, tokens.get(target.id))
    planned = [each.entity for each in waiting.values() if each.status == "planned"]
    return Known(caller, marks, bool(agreed), planned)


async def successions_of(store: Store, connection_id: str) -> dict[str, Succession]:
    async with store.read() as session:
        return await waiting_of(session, connection_id)


async def waiting_of(session: AsyncSession, connection_id: str) -> dict[str, Succession]:
    """Return those of a connection that aren't done, by entity."""
    rows = await session.scalars(_WAITING, {"whose": connection_id})
    return {row.entity: row for row in rows}


_WAITING = select(Succession).where(
    col(Succession.connection_id) == bindparam("whose"), col(Succession.status) != "done"
)
