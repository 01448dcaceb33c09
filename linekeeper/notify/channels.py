"""Whether a channel takes messages: kept, so that it is said once, and others are told instead."""

from datetime import datetime

from sqlalchemy import delete, update
from sqlmodel import col, select

from linekeeper.store.engine import Store
from linekeeper.store.tables import NoticeChannel
from linekeeper.store.upsert import insert_ignore


async def mark_broken(
    store: Store, channel: str, trouble: str, *, needs_mending: bool, now: datetime
) -> None:
    """Keep that `channel` takes nothing; since when stays what it was."""
    row = {"channel": channel, "trouble": trouble, "needs_mending": needs_mending, "since": now}
    async with store.write() as session:
        await insert_ignore(store, session, NoticeChannel, [row])
        await session.execute(
            update(NoticeChannel)
            .where(col(NoticeChannel.channel) == channel)
            .values(trouble=trouble, needs_mending=needs_mending)
        )


async def mark_well(store: Store, channel: str) -> None:
    """Forget what was known against `channel`."""
    async with store.read() as session:
        if await session.get(NoticeChannel, channel) is None:
            return
    async with store.write() as session:
        await session.execute(delete(NoticeChannel).where(col(NoticeChannel.channel) == channel))


async def troubles(store: Store) -> list[NoticeChannel]:
    """The channels that take nothing now."""
    async with store.read() as session:
        return list(await session.scalars(select(NoticeChannel)))
