"""SQLite's file is moved or removed while it is in use: nothing is written elsewhere.

A part that goes on with the file that it had opened would answer 200 for what nobody finds again,
and one that begins would make an empty database in its place, as where a disk is not mounted.
"""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import select

from linekeeper.clock import utcnow
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.errors import StoreError, trouble_of
from linekeeper.store.tables import Audit
from tests.receiver.conftest import Here, receiving

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
"""PostgreSQL's files are its own server's."""


@pytest.fixture
def file(settings: Settings) -> Path:
    """The database's file."""
    return settings.home / "linekeeper.db"


@pytest.fixture
async def here(file: Path, settings: Settings) -> AsyncIterator[Here]:
    """A receiver on it."""
    async with receiving(settings) as here:
        yield here


async def write(store: Store, subject: str) -> None:
    async with store.write() as session:
        session.add(Audit(at=utcnow(), by="test", action="test", subject=subject))


async def subjects(settings: Settings) -> list[str]:
    async with Store.open(settings) as store, store.read() as session:
        return [row.subject for row in await session.scalars(select(Audit))]


async def test_a_part_that_begins_without_the_file_makes_none(
    file: Path, settings: Settings
) -> None:
    away = file.rename(file.with_name("away"))
    with pytest.raises(StoreError, match="there is no database at"):
        async with Runtime.open(settings):
            raise AssertionError("it was opened")
    assert not file.exists()
    away.rename(file)
    async with Runtime.open(settings) as rt:
        await write(rt.store, "back")


async def test_what_is_written_while_the_file_is_away_is_refused_and_none_is_made(
    file: Path, settings: Settings, store: Store
) -> None:
    await write(store, "before")
    away = file.rename(file.with_name("away"))
    for _ in range(3):
        with pytest.raises(OperationalError, match="moved or removed"):
            await write(store, "lost")
    assert not file.exists()
    away.rename(file)
    await write(store, "after")
    assert await subjects(settings) == ["before", "after"]


async def test_another_file_in_its_place_is_used_once_linekeeper_is_restarted(
    file: Path, settings: Settings, store: Store, migrated: Settings
) -> None:
    await write(store, "before")
    shutil.copy(migrated.home / file.name, file.with_name("another"))
    file.with_name("another").replace(file)
    for _ in range(2):
        with pytest.raises(OperationalError) as refused:
            await write(store, "lost")
    trouble = str(trouble_of(refused.value))
    assert "another one is in its place" in trouble
    assert "stop every part of Linekeeper" in trouble
    for left in ("-wal", "-shm"):
        file.with_name(file.name + left).unlink()
    assert await subjects(settings) == []


async def test_a_file_whose_folder_is_none_any_more_is_away_as_one_that_was_moved(
    file: Path, settings: Settings, store: Store
) -> None:
    await write(store, "before")
    away = settings.home.rename(settings.home.with_name("away"))
    settings.home.touch()
    try:
        with pytest.raises(OperationalError, match="moved or removed: not a directory"):
            await write(store, "lost")
    finally:
        settings.home.unlink()
        away.rename(settings.home)
    await write(store, "after")
    assert await subjects(settings) == ["before", "after"]


async def test_a_webhook_that_got_200_is_in_the_file_that_is_there(here: Here, file: Path) -> None:
    assert (await here.post({"id": "before"})).status_code == 200
    away = file.rename(file.with_name("away"))
    for _ in range(3):
        answer = await here.post({"id": "meanwhile"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert not file.exists()
    away.rename(file)
    assert (await here.post({"id": "meanwhile"})).status_code == 200
    assert {event.delivery_key for event in await here.events()} == {"before", "meanwhile"}
