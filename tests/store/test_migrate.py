import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import event, make_url, text
from sqlmodel import SQLModel

from linekeeper.settings import Settings
from linekeeper.store import KeyProblem, Store, StoreError
from linekeeper.store.migrate import migrate
from linekeeper.store.schema import MIGRATIONS, head, require_current


async def test_the_migrations_make_exactly_the_tables_of_the_code(store: Store) -> None:
    def differences(connection):
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        return compare_metadata(context, SQLModel.metadata)

    async with store.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_migrating_again_changes_nothing(store: Store) -> None:
    assert await migrate(store) == (head(), head())
    await require_current(store)


async def test_two_processes_may_migrate_at_once(empty_settings: Settings) -> None:
    async with Store.open(empty_settings) as store, Store.open(empty_settings) as other:
        await asyncio.gather(migrate(store), migrate(other))
        await require_current(store)


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
async def test_whoever_migrates_waits_for_another_however_long_that_takes(
    tmp_path: Path, mode: str
) -> None:
    """Also for one who has only begun to, and has not switched the new database to WAL yet."""
    settings = Settings(home=tmp_path / "home")
    async with Store.open(settings) as store:
        event.listen(store.engine.sync_engine, "connect", _soon_busy)
        path = make_url(settings.resolved_database_url).database
        assert path is not None
        other = sqlite3.connect(path, isolation_level=None)
        other.execute(f"PRAGMA journal_mode={mode}")
        other.execute("BEGIN IMMEDIATE")
        migrating = asyncio.create_task(migrate(store))
        await asyncio.sleep(1)  # SQLite has given up by then
        assert not migrating.done()
        other.execute("COMMIT")
        other.close()
        await migrating
        await require_current(store)


def _soon_busy(connection: Any, _record: Any) -> None:
    """SQLite gives up after a tenth of a second, in place of half a minute."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=100")
    cursor.close()


async def test_an_empty_database_is_refused_with_the_command_to_run(
    empty_settings: Settings,
) -> None:
    async with Store.open(empty_settings) as store:
        with pytest.raises(StoreError, match="run `linekeeper migrate`"):
            await require_current(store)


async def test_a_newer_schema_is_refused(store: Store) -> None:
    async with store.write() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer than this version"):
        await migrate(store)


async def test_another_key_is_refused_before_anything_is_read(
    store: Store, settings: Settings
) -> None:
    other = SecretStr(Fernet.generate_key().decode())
    async with Store.open(settings.model_copy(update={"encryption_keys": (other,)})) as wrong:
        with pytest.raises(KeyProblem, match="encrypted with another key"):
            await require_current(wrong)


async def test_a_lost_key_file_is_not_replaced_for_an_existing_database(tmp_path) -> None:
    settings = Settings(home=tmp_path / "home")
    async with Store.open(settings) as store:
        await migrate(store)
    keys = settings.home / "encryption-keys"
    assert keys.stat().st_mode & 0o777 == 0o600
    keys.unlink()
    with pytest.raises(KeyProblem, match="is missing, but the database"):
        Store.open(settings)
    assert not keys.exists()


def test_the_head_read_off_the_files_is_alembics_own() -> None:
    assert head() == ScriptDirectory(str(MIGRATIONS)).get_current_head()
