"""Bringing the schema up to date (Alembic), safely from several processes at once."""

import asyncio
import logging
import sqlite3

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import delete, insert, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from linekeeper.clock import monotonic, utcnow
from linekeeper.store import schema
from linekeeper.store.cipher import Cipher, KeyProblem
from linekeeper.store.engine import Store, begin_writing
from linekeeper.store.errors import StoreError, trouble_of
from linekeeper.store.schema import SERVES, check_key, schema_of
from linekeeper.store.tables import AppSetting

_LOCK = 4_217_001  # PostgreSQL's advisory lock for migrations
_WAIT_SECONDS = 900.0
"""How many seconds SQLite's lock is waited for."""
_log = logging.getLogger(__name__)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    return config


async def migrate(store: Store) -> tuple[str | None, str]:
    """Bring the schema up to date, whole or not at all; returns the versions before and after.

    Harmless to repeat and to run twice at once. Raises `StoreError` for a database that can't be
    written or has a newer schema, `KeyProblem` if our keys are not those of the database.
    """
    try:
        async with store.engine.connect() as connection, connection.begin():
            await _begin(connection)
            if not store.is_sqlite:
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            before = await connection.run_sync(schema_of)
            await connection.run_sync(_upgrade)
            await connection.run_sync(say_whom_it_serves, store.cipher)
    except (DBAPIError, OSError) as error:
        raise trouble_of(error) from error
    await check_key(store)
    return before, schema.head()


async def _begin(connection: AsyncConnection) -> None:
    """Begin to write, once whoever migrates now is done: that may take longer than any other write.

    PostgreSQL's own lock is waited for without an end; SQLite gives up after half a minute.
    """
    started = monotonic()
    while True:
        try:
            await connection.run_sync(begin_writing)
        except OperationalError as error:
            is_held = getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
            if not is_held or monotonic() - started > _WAIT_SECONDS:
                raise
            _log.warning("another process writes, or migrates: waiting for it")
            await asyncio.sleep(0.1)
        else:
            return


def build_schema(connection: Connection, revision: str) -> bool:
    """Bring a database up to `revision`, or `head`; False if this code doesn't know that one."""
    config = _config()
    if revision != "head" and revision not in _known(config):
        return False
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    return True


def say_whom_it_serves(connection: Connection, cipher: Cipher) -> None:
    """Write down which older code may work on this schema: the migration's `serves`."""
    script = ScriptDirectory.from_config(_config()).get_revision("head")
    serves: tuple[str, ...] = getattr(script.module, "serves", ()) if script else ()
    named = col(AppSetting.name) == SERVES
    written = connection.scalar(select(col(AppSetting.value)).where(named))
    if written is not None and _is_said(written, serves, cipher):
        return
    connection.execute(delete(AppSetting).where(named))
    if serves:
        row = {"name": SERVES, "value": cipher.encrypt(",".join(serves)), "updated_at": utcnow()}
        connection.execute(insert(AppSetting), [row])


def _is_said(written: str, serves: tuple[str, ...], cipher: Cipher) -> bool:
    try:
        return cipher.decrypt(written) == ",".join(serves)
    except KeyProblem:  # written under a key that is gone: it is written anew
        return False


def _known(config: Config) -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}


def _upgrade(connection: Connection) -> None:
    known = _known(_config())
    version = schema_of(connection)
    if version is not None and version not in known:
        raise StoreError(
            f"the database's schema {version} is newer than this version of Linekeeper",
            "upgrade Linekeeper, or restore the backup taken before the upgrade",
        )
    build_schema(connection, "head")
