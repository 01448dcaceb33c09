"""Runs that were to be woken later before `due_at` was kept are no backlog afterwards."""

from datetime import timedelta

from sqlalchemy import MetaData, Table, insert, select
from sqlalchemy.engine import Connection as SyncConnection
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.settings import Settings
from linekeeper.store import new_id
from linekeeper.store.tables import Outbox
from linekeeper.store.types import UtcDateTime
from tests.store.filling import migrated

BEFORE = "0049"
NOW = utcnow()
LATER = NOW + timedelta(hours=1)
ROWS = {
    "planned": ("run", 0, LATER),
    "at once": ("run", 0, NOW),
    "tried": ("run", 3, LATER),
    "forward": ("forward", 0, LATER),
}


def _fill(connection: SyncConnection) -> None:
    table = Table("outbox", MetaData(), autoload_with=connection)

    def stored(at: object) -> object:
        return UtcDateTime().process_bind_param(at, connection.dialect)  # type: ignore[arg-type]

    for key, (channel, attempts, due) in ROWS.items():
        identifier = new_id()
        connection.execute(
            insert(table).values(
                id=identifier,
                seq=identifier,
                channel=channel,
                dedupe_key=key,
                lane=key,
                payload={} if connection.dialect.name == "postgresql" else "{}",
                status="pending",
                attempts=attempts,
                created_at=stored(NOW),
                next_attempt_at=stored(due),
            )
        )


async def test_only_what_nobody_tried_was_written_for_later(empty_settings: Settings) -> None:
    async with migrated(empty_settings, BEFORE, _fill) as session:
        rows = await session.execute(select(col(Outbox.dedupe_key), col(Outbox.due_at)))
    assert {key: due for key, due in rows if due is not None} == {"planned": LATER}
