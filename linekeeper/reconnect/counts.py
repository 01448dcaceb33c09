"""What the backfill of a case brought: counted, kept, and said."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, or_, select, union
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from linekeeper.runtime import Runtime
from linekeeper.store.tables import Change, Reconnect, Record
from linekeeper.text import counted


async def keep_counts(
    rt: Runtime,
    incident_id: str,
    connection_id: str,
    counts: Mapping[str, int],
    *,
    since: datetime,
    until: datetime,
) -> dict[str, int]:
    """Remember what the backfill of a connection brought; returns it with two more counts.

    `caught_up` is how many records changed at the source by `until` and reached the index only
    after the login was lost: the same number however often the backfill was begun. A change may be
    dated before `since`, where a source gives whole days, and after `until`, where its clock is
    ahead: what is dated later than it was found shows that, and then what polls found counts.
    Another key is no change. An entity that is read for the first time says of no record that it
    changed: there the times decide.
    `removals_waiting` are not listed any more, and a second listing has to agree.
    """
    async with rt.store.write() as session:
        reconnect = await session.get_one(Reconnect, incident_id, with_for_update=True)
        caught_up = await _caught_up(session, connection_id, reconnect.opened_at, since, until)
        waiting = await _removals_waiting(session, connection_id, reconnect.opened_at)
        kept = {**counts, "caught_up": caught_up, "removals_waiting": waiting}
        reconnect.counts = {**reconnect.counts, connection_id: kept}
    return kept


async def _caught_up(
    session: AsyncSession,
    connection_id: str,
    lost_at: datetime,
    since: datetime,
    until: datetime,
) -> int:
    changes = select(col(Change.entity), col(Change.key)).where(
        col(Change.connection_id) == connection_id, col(Change.at) >= lost_at
    )
    ahead = aliased(Change)
    is_ahead = (
        select(col(ahead.id))
        .where(
            col(ahead.connection_id) == connection_id,
            col(ahead.at) >= lost_at,
            col(ahead.updated_at) > col(ahead.at),
        )
        .exists()
    )
    changed = changes.where(
        col(Change.op) != "rekeyed",
        or_(
            col(Change.updated_at).is_(None),
            col(Change.updated_at) <= until,
            and_(col(Change.source) == "poll", is_ahead),
        ),
    )
    renamed = changes.where(
        col(Change.op) == "rekeyed",
        col(Change.entity) == col(Record.entity),
        col(Change.key) == col(Record.key),
    )
    read = select(col(Record.entity), col(Record.key)).where(
        col(Record.connection_id) == connection_id,
        col(Record.updated_at) >= since,
        or_(col(Record.updated_at) <= until, col(Record.updated_at) > col(Record.seen_at)),
        col(Record.seen_at) >= lost_at,
        ~renamed.exists(),
    )
    brought = union(changed, read).subquery()
    return await session.scalar(select(func.count()).select_from(brought)) or 0


async def _removals_waiting(session: AsyncSession, connection_id: str, lost_at: datetime) -> int:
    waiting = await session.scalar(
        select(func.count())
        .select_from(Record)
        .where(
            col(Record.connection_id) == connection_id,
            col(Record.deleted_at).is_(None),
            col(Record.absent_since) >= lost_at,
        )
    )
    return waiting or 0


def is_read_through(counts: Mapping[str, Any] | None) -> bool:
    """Whether the backfill of a connection compared all that it is read for. Pure.

    What was read for the first time was compared with nothing: what changed is not known.
    """
    count = {name: int((counts or {}).get(name, 0)) for name in ("compared", "new", "failed")}
    return bool(count["compared"]) and not count["new"] and not count["failed"]


def backfilled(backfills: Sequence[Mapping[str, Any]]) -> str:
    """What the backfills of some connections brought, in words. Pure.

    That there was nothing to backfill is said only where a comparison could have found something.
    """
    records = sum(int(counts.get("caught_up", 0)) for counts in backfills)
    compared = sum(int(counts.get("compared", 0)) for counts in backfills)
    failed = sum(int(counts.get("failed", 0)) for counts in backfills)
    new = sum(int(counts.get("new", 0)) for counts in backfills)
    left = []
    if failed:
        left.append(f"{counted(failed, 'entity')} could not be read, and reconcile reads on")
    if new:
        left.append(f"{counted(new, 'entity')} read for the first time, not compared")
    if not records and not compared:
        because = f" ({'; '.join(left)})" if left else ""
        return (
            f"nothing could be compared{because}, so whether anything changed meanwhile is not "
            "known"
        )
    said = f"{counted(records, 'record')} backfilled"
    waiting = sum(int(counts.get("removals_waiting", 0)) for counts in backfills)
    if waiting:
        are = "1 removal waits" if waiting == 1 else f"{waiting:,} removals wait"
        are += " for a second complete listing"
        said = f"{said}; {are}" if records else are
    elif not records:
        said = "nothing to backfill"
    return "; ".join([said, *left])
