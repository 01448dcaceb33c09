"""The one message about several incidents: of which kind it is, and what it is about."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.store.engine import Store, chunked
from linekeeper.store.tables import Notice, NoticeMessage, Outbox

GroupKind = Literal["morning", "cap", "over", "elsewhere"]
"""What waited for the end of quiet hours; what is more than an hour's cap; what was over before
anybody was notified; what goes to fallback channels at one moment."""
Shared = tuple[str, GroupKind] | tuple[None, None]
"""The key of such a message and its kind; neither where an incident has a message of its own."""

_AT_ONCE = 5_000
_OF_BEFORE = case(
    *(
        (col(Notice.group_key).startswith(f"{kind}:"), kind)
        for kind in ("morning", "cap", "over", "elsewhere")
    )
)
GROUP_KIND = func.coalesce(col(Notice.group_kind), _OF_BEFORE).label("group_kind")
"""`Notice.group_kind`, also in rows of before migration 0060, whose keys alone say it.

A process of the version before may write such ones while this one takes over; once no migration
`serves` a schema before 0060 any more, the column itself is enough.
"""


class SharedMessage(NamedTuple):
    """Such a message, by its key: its kind, and the ids of its incidents."""

    kind: str
    incidents: list[str]


async def load_group(store: Store, key: str) -> SharedMessage:
    """Read it; one that nobody decided, or that was decided otherwise since, is about none."""
    async with store.read() as session:
        rows = await session.execute(
            select(GROUP_KIND, col(Notice.incident_id))
            .where(col(Notice.group_key) == key)
            .order_by(col(Notice.id))
        )
        notices = rows.all()
    return SharedMessage(notices[0][0] or "" if notices else "", [row[1] for row in notices])


def group_ordering_key(group_key: str) -> str:
    """The ordering key of the message that several incidents share."""
    return f"slack:fold:{group_key}"


async def is_waiting(store: Store, group_key: str) -> bool:
    """Whether the message that several incidents share has yet to be sent."""
    async with store.read() as session:
        row_id = await session.scalar(
            select(col(Outbox.id))
            .where(
                col(Outbox.ordering_key) == group_ordering_key(group_key),
                col(Outbox.status) == "pending",
            )
            .limit(1)
        )
        return row_id is not None


async def delivered_of(
    session: AsyncSession, channels: Sequence[str], ids: Sequence[str]
) -> frozenset[str]:
    """Incidents that have a message in Slack, of their own or with others."""
    of_subject = {f"incident:{identifier}": [identifier] for identifier in ids}
    for portion in chunked(ids, _AT_ONCE):
        group_keys = await session.execute(
            select(col(Notice.group_key), col(Notice.incident_id)).where(
                col(Notice.incident_id).in_(portion), col(Notice.group_key).is_not(None)
            )
        )
        for group_key, incident_id in group_keys:
            of_subject.setdefault(f"fold:{group_key}", []).append(incident_id)
    delivered: set[str] = set()
    for subjects in chunked(list(of_subject), _AT_ONCE):
        delivered_subjects = await session.scalars(
            select(col(NoticeMessage.subject)).where(
                col(NoticeMessage.channel).in_(channels), col(NoticeMessage.subject).in_(subjects)
            )
        )
        for subject in delivered_subjects:
            delivered.update(of_subject[subject])
    return frozenset(delivered)
