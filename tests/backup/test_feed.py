"""After a restore the change feed skips nothing, whatever its product had read by then."""

from pathlib import Path

import pytest
from sqlmodel import select

from linekeeper.backup import back_up, restore
from linekeeper.clock import utcnow
from linekeeper.reconcile.feed import BadCursor, cursor, read_feed
from linekeeper.reconcile.upsert import Arrived, upsert_records
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.engine import encryption_keys
from linekeeper.store.tables import Connection
from tests.backup.test_backup import filled, target

__all__ = ["filled", "target"]


async def change(store: Store, *keys: str) -> None:
    """Records arrive that nobody knew."""
    now = utcnow()
    async with store.write() as session:
        [identifier] = await session.scalars(select(Connection.id))
        records = [{"key": key} for key in keys]
        arrived = Arrived(
            identifier,
            "eam/assets",
            records,
            bodies=False,
            fields=(),
            asked_at=now,
            received_at=now,
        )
        await upsert_records(store, session, [arrived], source="poll", now=now)


async def read(store: Store, after: str | None) -> tuple[list[str], str]:
    page = await read_feed(store, after)
    return [change.key for change in page.changes], page.next


async def test_what_is_new_after_a_restore_is_behind_every_cursor(
    filled: Store, target: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "a.backup"
    await change(filled, "a", "b")
    _, before = await read(filled, None)
    await back_up(filled, file, encryption_keys(target), now=utcnow())
    await change(filled, "lost")
    keys, ahead = await read(filled, before)
    assert keys == ["lost"]
    async with Store.open(target) as store:
        await restore(store, file, by="tests", now=utcnow())
        assert await read(store, ahead) == ([], ahead)
        await change(store, "new")
        assert [(await read(store, place))[0] for place in (ahead, before)] == [["new"], ["new"]]
        assert (await read(store, None))[0] == ["a", "b", "new"]


async def test_a_cursor_ahead_of_all_there_is_is_refused(filled: Store) -> None:
    with pytest.raises(BadCursor, match="start over"):
        await read_feed(filled, cursor(7))
