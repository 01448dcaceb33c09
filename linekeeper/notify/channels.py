"""Where messages are, so that each is posted once and then edited; and which channels take none.

That it takes none is kept, so that it is said once, and the fallback channels are notified. Of
Slack also the rows beside the one that is sent: said together with it, or held with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    String,
    Update,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.notify.groups import group_ordering_key
from linekeeper.notify.routing import DEFAULT
from linekeeper.notify.view import Links
from linekeeper.outbox.queue import DUE_SINCE, OUTBOX
from linekeeper.outbox.sender import OutboxRow
from linekeeper.store.engine import Store, chunked, insert_ignore, insert_or_update
from linekeeper.store.tables import Notice, NoticeChannel, NoticeMessage
from linekeeper.store.types import UtcDateTime
from linekeeper.text import shown

ARTIFACTS = "prefect:artifacts"
"""The `channel` of artifacts, whose ids never change (`tasks.report.put_artifact`)."""


_MESSAGE = select(
    col(NoticeMessage.ts),
    col(NoticeMessage.place),
    col(NoticeMessage.stamp),
    col(NoticeMessage.updated_at),
).where(
    col(NoticeMessage.channel) == bindparam("channel"),
    col(NoticeMessage.subject) == bindparam("subject"),
)
_ARTIFACT_IDS = select(col(NoticeMessage.subject), col(NoticeMessage.ts)).where(
    col(NoticeMessage.channel) == ARTIFACTS,
    col(NoticeMessage.subject).in_(bindparam("keys", expanding=True)),
)


class MessageKept(NamedTuple):
    """Where a message is, and the stamp of the forms it was last written with."""

    ts: str
    channel_id: str
    stamp: str | None
    at: datetime
    """When it was posted, or last written with other forms."""


async def message_of(store: Store, subject: str, channel: str) -> MessageKept | None:
    async with store.read() as session:
        rows = await session.execute(_MESSAGE, {"channel": channel, "subject": subject})
        row = rows.one_or_none()
        return MessageKept(*row) if row else None


async def channel_id_of(store: Store, channel: str) -> str | None:
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
    channel_id: str,
    now: datetime,
    stamp: str | None = None,
) -> None:
    """Keep where the message about `subject` is; the last one counts."""
    row = {
        "subject": subject,
        "channel": channel,
        "ts": ts,
        "place": channel_id,
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
    await remember(store, key, ARTIFACTS, ts=identifier, channel_id="", now=now, stamp=stamp)


async def artifact_ids(store: Store, keys: Sequence[str]) -> dict[str, str]:
    """The ids of those artifacts of `keys` that were written."""
    channels: dict[str, str] = {}
    async with store.read() as session:
        for batch in chunked(keys, 5_000):
            rows = await session.execute(_ARTIFACT_IDS, {"keys": batch})
            channels |= {row[0]: row[1] for row in rows}
    return channels


async def with_artifacts(store: Store, links: Links, keys: Sequence[str]) -> Links:
    """The links, those to the artifacts `keys` leading to what they show."""
    return replace(links, artifact_ids=await artifact_ids(store, keys))


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
    needs_fix: bool,
    now: datetime,
) -> None:
    """Keep that `channel` takes nothing; since when stays what it was."""
    row = {"channel": channel, "trouble": trouble, "needs_fix": needs_fix, "since": now}
    await insert_ignore(store, session, NoticeChannel, [row])
    await session.execute(
        update(NoticeChannel)
        .where(col(NoticeChannel.channel) == channel)
        .values(trouble=trouble, needs_fix=needs_fix)
    )


_FORGET = (
    delete(NoticeChannel)
    .where(col(NoticeChannel.channel) == bindparam("name"))
    .returning(col(NoticeChannel.since))
)


async def mark_well(session: AsyncSession, channel: str) -> bool:
    """Forget what was known against `channel`; whether there was anything."""
    return await session.scalar(_FORGET, {"name": channel}) is not None


async def troubles(store: Store) -> list[NoticeChannel]:
    """The channels that take nothing now."""
    async with store.read() as session:
        return list(await session.scalars(select(NoticeChannel)))


BURST = 10
"""More timeline entries than this that wait behind each other are said as one."""
_BURST_LIMIT = 3_000
_BACKLOG = (
    select(OUTBOX.c.id, OUTBOX.c.payload)
    .where(
        OUTBOX.c.ordering_key == bindparam("order"),
        OUTBOX.c.status == literal_column("'pending'"),
        OUTBOX.c.claimed_by.is_(None),
        OUTBOX.c.id != bindparam("row_id"),
    )
    .order_by(OUTBOX.c.seq)
    .limit(1_000)
)
"""What waits behind a row under its ordering key."""


async def hold_channel(
    session: AsyncSession, error: str, *, until: datetime, only: str | None
) -> None:
    """Nothing of channel `slack` is due before `until`; each row says why.

    `only` narrows it to incidents that were announced in the Slack channel of this name.
    """
    await session.execute(
        _waiting(only)
        .where(OUTBOX.c.next_attempt_at <= until)
        .values(next_attempt_at=until, retry_at=until, error=error[:500])
    )


async def resume(
    session: AsyncSession, name: str, *, now: datetime, is_only: bool
) -> datetime | None:
    """The Slack channel `name` takes messages again: what was held for it, or met it, is due.

    Only after trouble that was kept: a channel that asked for fewer messages goes on waiting.
    Returns since when it took none.
    """
    since: datetime | None = await session.scalar(_FORGET, {"name": known_as(name)})
    if since is not None:
        await session.execute(
            _waiting(None if is_only else name)
            .where(OUTBOX.c.error.is_not(None), OUTBOX.c.next_attempt_at > now)
            .values(next_attempt_at=case((now < DUE_SINCE, DUE_SINCE), else_=now))
        )
    return since


def _waiting(only: str | None) -> Update:
    """Rows of channel `slack` that nobody has in hand, perhaps of one Slack channel only."""
    waiting = update(OUTBOX)
    if only is not None:
        notified = select(Notice).where(
            col(Notice.channel) == "slack",
            col(Notice.step) == "first",
            func.coalesce(col(Notice.slack_channel), DEFAULT) == only,
        )
        incident_id = cast(col(Notice.incident_id), String)
        of_incident = notified.with_only_columns(literal("slack:incident:") + incident_id)
        group_key, ordering_key = col(Notice.group_key), OUTBOX.c.ordering_key
        of_group = notified.with_only_columns(literal(group_ordering_key("")) + group_key)
        of_group = of_group.where(group_key.is_not(None))
        waiting = waiting.where(or_(ordering_key.in_(of_incident), ordering_key.in_(of_group)))
    return waiting.where(
        OUTBOX.c.channel == "slack",
        OUTBOX.c.status == "pending",
        OUTBOX.c.claimed_by.is_(None),
    )


async def gather_burst(store: Store, row: OutboxRow, *, now: datetime) -> OutboxRow:
    """The timeline entry `row`, together with those that wait behind it if they are a burst.

    Any other row stays as it is, as does one that was tried before.
    What it gathers is in its payload and settled in one transaction, before anything is said.
    """
    which = {"order": row.ordering_key, "row_id": row.id}
    if row.attempts > 1 or not _is_entry(row.payload):
        return row
    async with store.read() as session:
        if len((await session.execute(_BACKLOG, which)).all()) <= BURST:
            return row
    async with store.write() as session:
        backlog = (await session.execute(_BACKLOG, which)).all()
        entries = [entry for entry in backlog if _is_entry(entry.payload)]
        if len(entries) <= BURST:
            return row
        payloads = [row.payload, *(entry.payload for entry in entries)]
        texts = [str(payload.get("text", "")) for payload in payloads]
        payload = {**row.payload, "text": shown("\n".join(texts), _BURST_LIMIT, keep_lines=True)}
        if joined := ", ".join(p["joined"] for p in payloads if "joined" in p):
            payload["joined"] = shown(joined, _BURST_LIMIT)
        ours = await session.scalar(
            update(OUTBOX)
            .where(OUTBOX.c.id == row.id, OUTBOX.c.claimed_by == row.claimed_by)
            .values(payload=payload)
            .returning(OUTBOX.c.id)
        )
        if ours is None:
            return row
        await session.execute(
            update(OUTBOX)
            .where(OUTBOX.c.id.in_([entry.id for entry in entries]))
            .values(status="superseded", settled_at=now, error=f"said with {row.dedupe_key}")
        )
    return replace(row, payload=payload)


def _is_entry(payload: Mapping[str, Any]) -> bool:
    """Whether it is an entry of a timeline, of which each is said once."""
    return payload.get("do") in ("timeline", "diary") and "counts" not in payload


_SUPPRESS = (
    update(OUTBOX)
    .where(
        OUTBOX.c.ordering_key == bindparam("order"),
        OUTBOX.c.status == literal_column("'pending'"),
        OUTBOX.c.claimed_by.is_(None),
        ~exists().where(
            col(Notice.incident_id) == bindparam("incident"),
            col(Notice.channel) == "slack",
            col(Notice.step) == "first",
        ),
    )
    .values(
        status="suppressed",
        settled_at=bindparam("now", type_=UtcDateTime),
        error=bindparam("why", type_=OUTBOX.c.error.type),
    )
)


async def suppress_backlog(
    session: AsyncSession, row: OutboxRow, why: str | None, *, now: datetime
) -> None:
    """Suppress what waits behind `row`, which is, unless its incident was announced by now."""
    incident_id = row.payload["incident_id"]
    which = {"order": row.ordering_key, "incident": incident_id, "why": why, "now": now}
    await session.execute(_SUPPRESS, which)
