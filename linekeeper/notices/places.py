"""Where messages are in Slack, so that they are edited and never posted again."""

from datetime import datetime

from sqlalchemy import select
from sqlmodel import col

from linekeeper.store.engine import Store
from linekeeper.store.tables import NoticeMessage
from linekeeper.store.upsert import insert_or_update


async def message_of(store: Store, subject: str, channel: str) -> NoticeMessage | None:
    """Where the message about `subject` is in `channel`, if there is one."""
    async with store.read() as session:
        return await session.scalar(
            select(NoticeMessage).where(
                col(NoticeMessage.channel) == channel, col(NoticeMessage.subject) == subject
            )
        )


async def place_of(store: Store, channel: str) -> str | None:
    """The id Slack gave for `channel`, if anything was posted there before."""
    async with store.read() as session:
        return await session.scalar(
            select(col(NoticeMessage.place))
            .where(col(NoticeMessage.channel) == channel)
            .order_by(col(NoticeMessage.updated_at).desc())
            .limit(1)
        )


async def remember(
    store: Store, subject: str, channel: str, *, ts: str, place: str, now: datetime
) -> None:
    """Keep where the message about `subject` is; the last one counts."""
    row = {"subject": subject, "channel": channel, "ts": ts, "place": place, "updated_at": now}
    async with store.write() as session:
        await session.execute(
            insert_or_update(
                store,
                NoticeMessage,
                [row],
                key=["subject", "channel"],
                update=["ts", "place", "updated_at"],
            )
        )
