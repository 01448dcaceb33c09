"""A first listing of many records: all of them are written, and none is held longer than that."""

import gc
from datetime import datetime
from typing import Any

import pytest
from sqlmodel import col, func, select

from linekeeper.clock import utcnow
from linekeeper.reconcile.listing import BATCH_RECORDS, Sizes
from linekeeper.reconcile.target import load_targets
from linekeeper.reconcile.upsert import Read
from linekeeper.reconcile.writer import ListingWriter
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Record, Watermark
from tests.reconcile.conftest import Peer

ENTITY = "eam/assets"
MANY = 3 * BATCH_RECORDS + 1


@pytest.fixture(autouse=True)
def nothing_held() -> None:
    """What earlier tests left in circles is gone."""
    gc.collect()


def held() -> int:
    """How many records that were read this process holds."""
    return sum(type(each) is Read for each in gc.get_objects())


async def writer_for(rt: Runtime, connection: Connection, started: datetime) -> ListingWriter:
    (target,) = await load_targets(rt, await rt.app("default"), [connection.id])
    return ListingWriter(
        rt, target, ENTITY, None, started=started, run_at=started, cause=None,
        filter_refused_at=None, baseline=True,
    )  # fmt: skip


async def counted(rt: Runtime) -> int | None:
    async with rt.store.read() as session:
        return await session.scalar(
            select(func.count()).select_from(Record).where(col(Record.entity) == ENTITY)
        )


def records(count: int) -> list[dict[str, Any]]:
    return [
        {"key": f"{n * 7919 % 100_003:06d}", "code": f"A-{n}", "updatedAt": "2026-01-01T10:00:00Z"}
        for n in range(count)
    ]


async def test_what_is_written_is_held_no_longer(rt: Runtime, peer: Peer, one: Connection) -> None:
    started = utcnow()
    writer = await writer_for(rt, one, started)
    batch = writer.batch(started)
    batch.add(records(MANY), bodies=False)
    assert held() >= MANY
    assert await writer.write(batch) == MANY
    assert held() == 0
    assert await counted(rt) == MANY


async def test_the_last_of_it_is_written_with_its_watermark(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    started = utcnow()
    writer = await writer_for(rt, one, started)
    batch, sizes = writer.batch(started), Sizes()
    batch.add(records(MANY), bodies=False)
    sizes.record_total(MANY)
    written = await writer.finish(
        batch, sizes, listed=MANY, deleted=0, whole=True, shifted=False, inconsistent=False
    )
    assert (written, await counted(rt), held()) == (MANY, MANY, 0)
    async with rt.store.read() as session:
        (position,) = await session.scalars(select(Watermark.position))
    assert position == datetime.fromisoformat("2026-01-01T10:00:00Z")
