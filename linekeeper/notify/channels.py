"""Whether a channel takes messages: kept, so that it is said once, and others are told instead."""

from datetime import datetime

from sqlalchemy import delete, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from linekeeper.notify.routing import DEFAULT
from linekeeper.store.engine import Store
from linekeeper.store.tables import NoticeChannel
from linekeeper.store.upsert import insert_ignore

SOCKET = "Socket Mode"
"""What the trouble of Slack's Socket Mode is kept under."""


def known_as(slack_channel: str) -> str:
    """What the trouble of the Slack channel of this name is kept under."""
    return "slack" if slack_channel == DEFAULT else f"slack {slack_channel}"


async def mark_broken(
    store: Store,
    session: AsyncSession,
    channel: str,
    trouble: str,
    *,
    needs_mending: bool,
    now: datetime,
) -> None:
    """Keep that `channel` takes nothing; since when stays what it was."""
    row = {"channel": channel, "trouble": trouble, "needs_mending": needs_mending, "since": now}
    await insert_ignore(store, session, NoticeChannel, [row])
    await session.execute(
        update(NoticeChannel)
        .where(col(NoticeChannel.channel) == channel)
        .values(trouble=trouble, needs_mending=needs_mending)
    )


async def mark_well(session: AsyncSession, channel: str) -> None:
    """Forget what was known against `channel`."""
    await session.execute(delete(NoticeChannel).where(col(NoticeChannel.channel) == channel))


async def troubles(store: Store) -> list[NoticeChannel]:
    """The channels that take nothing now."""
    async with store.read() as session:
        return list(await session.scalars(select(NoticeChannel)))
