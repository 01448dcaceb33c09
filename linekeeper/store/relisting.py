"""What no list of changes has: the next poll of a connection reads all of it anew."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, update
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.store.engine import chunked
from linekeeper.store.tables import Watermark
from linekeeper.store.types import UtcDateTime, table_of

_MARKS: Any = table_of(Watermark).c
_LIST_WHOLE = (
    update(table_of(Watermark))
    .where(_MARKS.connection_id.in_(bindparam("ids", expanding=True)), _MARKS.full_at.is_not(None))
    .values(confirm_at=bindparam("now", type_=UtcDateTime))
)


async def list_whole_again(
    session: AsyncSession, connections: Collection[str], *, now: datetime
) -> None:
    """Have every entity of `connections` that was listed before listed whole by the next poll."""
    for chunk in chunked(sorted(connections), 5_000):
        await session.execute(_LIST_WHOLE, {"ids": chunk, "now": now})
