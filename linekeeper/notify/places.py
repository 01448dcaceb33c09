"""Where messages are in Slack, so that they are edited and never posted again; and artifacts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import bindparam, select
from sqlmodel import col

from linekeeper.notify.view import Links
from linekeeper.store.engine import Store
from linekeeper.store.statements import chunked, insert_or_update
from linekeeper.store.tables import NoticeMessage

ARTIFACTS = "prefect:artifacts"
"""The `channel` of artifacts, whose ids never change (`tasks.report.put_artifact`)."""


_MESSAGE = select(NoticeMessage).where(
    col(NoticeMessage.channel) == bindparam("channel"),
    col(NoticeMessage.subject) == bindparam("subject"),
)
_ARTIFACT_IDS = select(col(NoticeMessage.subject), col(NoticeMessage.ts)).where(
    col(NoticeMessage.channel) == ARTIFACTS,
    col(NoticeMessage.subject).in_(bindparam("keys", expanding=True)),
)


async def message_of(store: Store, subject: str, channel: str) -> NoticeMessage | None:
    """Where the message about `subject` is in `channel`, if there is one."""
    async with store.read() as session:
        return await session.scalar(_MESSAGE, {"channel": channel, "subject": subject})


async def messages_of(store: Store, subject: str) -> set[str]:
    """The channels in which there is a message about `subject`."""
    async with store.read() as session:
        found = select(col(NoticeMessage.channel)).where(col(NoticeMessage.subject) == subject)
        return set(await session.scalars(found))


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
    store: Store,
    subject: str,
    channel: str,
    *,
    ts: str,
    place: str,
    now: datetime,
    stamp: str | None = None,
) -> None:
    """Keep where the message about `subject` is; the last one counts."""
    row = {
        "subject": subject,
        "channel": channel,
        "ts": ts,
        "place": place,
        "stamp": stamp,
        "updated_at": now,
    }
    async with store.write() as session:
        await insert_or_update(
            store,
            session,
            NoticeMessage,
            [row],
            key=["subject", "channel"],
            update=["ts", "place", "stamp", "updated_at"],
        )


async def remember_artifact(
    store: Store, key: str, identifier: str, *, now: datetime, stamp: str | None = None
) -> None:
    """Keep the id of the artifact `key`, so that links lead to what it shows, and its stamp."""
    await remember(store, key, ARTIFACTS, ts=identifier, place="", now=now, stamp=stamp)


async def artifact_ids(store: Store, keys: Sequence[str]) -> dict[str, str]:
    """The ids of those artifacts of `keys` that were written."""
    found: dict[str, str] = {}
    async with store.read() as session:
        for some in chunked(keys, 5_000):
            rows = await session.execute(_ARTIFACT_IDS, {"keys": some})
            found |= {row[0]: row[1] for row in rows}
    return found


async def with_artifacts(store: Store, links: Links, keys: Sequence[str]) -> Links:
    """The links, those to the artifacts `keys` leading to what they show."""
    return replace(links, artifact_ids=await artifact_ids(store, keys))
