"""What Makini says of its own sync of single entities: kept beside the entity it is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.store import Store
from linekeeper.store.engine import chunked, insert_ignore
from linekeeper.store.tables import Watermark


@dataclass(frozen=True, slots=True)
class EntitySync:
    """A sync of one entity of a connection ended `at`: well, or with an `error`."""

    connection_id: str
    entity: str
    at: datetime
    error: str | None = None


async def note_syncs(
    store: Store, session: AsyncSession, syncs: Sequence[EntitySync], whole: Mapping[str, datetime]
) -> None:
    """Remember the latest good and the latest bad end of each, in whatever order they arrive.

    `whole`: when a sync of all of a connection ended well.
    """
    ended = [*syncs, *await _ended_with_the_whole(session, whole)]
    if not ended:
        return
    keys = sorted({(sync.connection_id, sync.entity) for sync in ended})
    rows = [{"connection_id": connection, "entity": entity} for connection, entity in keys]
    await insert_ignore(store, session, Watermark, rows)
    for sync in sorted(ended, key=lambda sync: (sync.connection_id, sync.entity, sync.at)):
        if sync.error is None:
            said = col(Watermark.synced_at)
            values: dict[str, object] = {"synced_at": sync.at}
        else:
            said = col(Watermark.sync_failed_at)
            values = {"sync_failed_at": sync.at, "sync_error": sync.error}
        await session.execute(
            update(Watermark)
            .where(
                col(Watermark.connection_id) == sync.connection_id,
                col(Watermark.entity) == sync.entity,
                or_(said.is_(None), said < sync.at),
            )
            .values(values)
        )


async def _ended_with_the_whole(
    session: AsyncSession, whole: Mapping[str, datetime]
) -> list[EntitySync]:
    """The good ends that those of whole connections are for entities whose sync had failed."""
    syncs: list[EntitySync] = []
    for chunk in chunked(sorted(whole), 1_000):
        rows = await session.execute(
            select(col(Watermark.connection_id), col(Watermark.entity)).where(
                col(Watermark.connection_id).in_(chunk), col(Watermark.sync_failed_at).is_not(None)
            )
        )
        syncs += [EntitySync(identifier, entity, whole[identifier]) for identifier, entity in rows]
    return syncs
