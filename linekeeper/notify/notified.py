"""What was decided to be said, and what was held back, as deliverers have to know it."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import bindparam, select
from sqlmodel import col

from linekeeper.chunks import chunked
from linekeeper.notify.routing import DEFAULT
from linekeeper.store.engine import Store
from linekeeper.store.tables import Notice, Outbox

_AT_ONCE = 5_000
_FIRST = (
    select(col(Notice.incident_id), col(Notice.fold), col(Notice.slack_channel))
    .where(
        col(Notice.incident_id).in_(bindparam("ids", expanding=True)),
        col(Notice.channel) == "slack",
        col(Notice.step) == "first",
    )
    .order_by(col(Notice.round))
)


@dataclass(frozen=True, slots=True)
class First:
    """How Slack is told of an incident."""

    slack_channel: str
    fold: str | None
    """The message it shares with others, if it does."""


async def first_notices(store: Store, incident_ids: Collection[str]) -> dict[str, First]:
    """Those that Slack is to be told of, and how.

    An incident that isn't among them is not to be told, or not yet.
    """
    found: dict[str, First] = {}
    ids = sorted(set(incident_ids))
    async with store.read() as session:
        for chunk in chunked(ids, _AT_ONCE):
            rows = await session.execute(_FIRST, {"ids": chunk})
            found |= {row[0]: First(row[2] or DEFAULT, row[1]) for row in rows}
    return found


async def incidents_of_fold(store: Store, key: str) -> list[str]:
    """The incidents that the one message `key` tells of."""
    async with store.read() as session:
        rows = await session.scalars(
            select(col(Notice.incident_id)).where(col(Notice.fold) == key).order_by(col(Notice.id))
        )
        return list(rows)


async def withheld_texts(store: Store, lane: str) -> list[str]:
    """What an incident's diary would have said while it was not to be told, oldest first."""
    async with store.read() as session:
        rows = await session.scalars(
            select(col(Outbox.payload))
            .where(
                col(Outbox.lane) == lane,
                col(Outbox.status) == "suppressed",
            )
            .order_by(col(Outbox.seq))
        )
        return [str(row["text"]) for row in rows if row.get("do") == "diary"]
