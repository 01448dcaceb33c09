"""What arrivals leave behind at their connection: when the last one came, how many in each hour."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, or_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.store import Store
from linekeeper.store.tables import Connection, WebhookHour
from linekeeper.store.types import table_of

_CONNECTION = table_of(Connection)
_HOUR = table_of(WebhookHour)


def hour_of(at: datetime) -> int:
    """Whole hours since 1970."""
    return int(at.timestamp() // 3600)


async def leave_traces(
    store: Store, session: AsyncSession, arrivals: Sequence[tuple[str, datetime]]
) -> None:
    """Note `arrivals` (connection id, time of receipt), in the transaction that settles them."""
    if not arrivals:
        return
    last: dict[str, datetime] = {}
    for connection_id, at in arrivals:
        last[connection_id] = max(at, last.get(connection_id, at))
    connection = await session.connection()
    at_type = _CONNECTION.c.last_webhook_at.type
    await connection.execute(
        update(_CONNECTION)
        .where(
            _CONNECTION.c.id == bindparam("row_id"),
            or_(
                _CONNECTION.c.last_webhook_at.is_(None),
                _CONNECTION.c.last_webhook_at < bindparam("at", type_=at_type),
            ),
        )
        .values(last_webhook_at=bindparam("at", type_=at_type)),
        [{"row_id": row_id, "at": last[row_id]} for row_id in sorted(last)],
    )
    counts = Counter((connection_id, hour_of(at)) for connection_id, at in arrivals)
    dialect: Any = sqlite if store.is_sqlite else postgresql
    adding = dialect.insert(_HOUR)
    await connection.execute(
        adding.on_conflict_do_update(
            index_elements=["connection_id", "hour"],
            set_={"events": _HOUR.c.events + adding.excluded.events},
        ),
        [
            {"connection_id": connection_id, "hour": hour, "events": count}
            for (connection_id, hour), count in sorted(counts.items())
        ],
    )
