"""What changes at the source without a webhook, and what is measured of it."""

from datetime import datetime, timedelta

from sqlalchemy import update

from linekeeper.clock import utcnow
from linekeeper.reconcile.measure import measure
from linekeeper.reconcile.trust import Measured
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Connection, Watermark
from tests.reconcile.conftest import Peer

HOURS = timedelta(hours=1)


async def read_last(rt: Runtime, at: datetime) -> None:
    """Everything was read for the last time then."""
    async with rt.store.write() as session:
        await session.execute(
            update(Watermark).values(polled_at=at, moved_at=at, position=at - HOURS)
        )


def change(
    peer: Peer, connection: Connection, assets: range, *, at: datetime | None = None
) -> list[str]:
    """These of its assets change, at that time as the source says; no webhook is sent."""
    assert peer.world is not None
    system = peer.world.find(connection.makini_key)
    assert system is not None
    collection = peer.world.records.of(system)["eam/assets"]
    keys = [collection.key(index) for index in assets]
    for key in keys:
        said = {} if at is None else {"updatedAt": at.isoformat()}
        peer.world.put_record(system, "eam/assets", {"key": key, **said}, announce=False)
    return keys


async def measured_of(rt: Runtime, connection: Connection) -> tuple[Measured, str]:
    """What is measured of it, and the state it is in."""
    [verdict] = [v for v in await measure(rt, now=utcnow()) if v.connection_id == connection.id]
    return verdict.measured, verdict.after
