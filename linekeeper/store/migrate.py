"""Bringing the schema up to date (Alembic), safely from several processes at once."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import delete, insert, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.store.cipher import Cipher, KeyProblem
from linekeeper.store.engine import Store, StoreError
from linekeeper.store.tables import AppSetting
from linekeeper.store.upsert import insert_ignore

_LOCK = 4_217_001  # PostgreSQL's advisory lock for migrations
KEY_CHECK = "encryption-key-check"
"""The setting that holds a known text under our key."""
SERVES = "schema-serves"
"""The setting that names the older schemas whose code may work on this one."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


@cache
def head() -> str:
    """The schema version this code is written for."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


async def migrate(store: Store) -> tuple[str | None, str]:
    """Bring the schema to `head()`, whole or not at all; returns the versions before and after.

    Harmless to repeat and to run twice at once. Raises `StoreError` for a database that can't be
    written or has a newer schema, `KeyProblem` if our keys are not those of the database.
    """
    try:
        async with store.engine.connect() as connection:
            await connection.execution_options(linekeeper_write=True)
            async with connection.begin():
                if not store.is_sqlite:
                    await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
                before = await connection.run_sync(schema_of)
                await connection.run_sync(_upgrade)
                await connection.run_sync(say_whom_it_serves, store.cipher)
    except DBAPIError as error:
        raise StoreError(describe(error)) from error
    await check_key(store)
    return before, head()


async def require_current(store: Store) -> None:
    """Raise `StoreError` unless this code can work on the schema.

    That is the one it is written for, or a newer one that says it serves this code too: so old
    consumers and runs go on while a release is rolled out.
    """
    try:
        async with store.engine.connect() as connection:
            found = await connection.run_sync(schema_of)
    except (DBAPIError, OSError) as error:
        raise StoreError(describe(error)) from error
    if found != head() and not (found and head() in await _served(store)):
        if found and found > head():
            raise StoreError(
                f"the database's schema {found} is too new for this version of Linekeeper "
                f"(schema {head()}): upgrade Linekeeper"
            )
        raise StoreError(
            f"the database's schema is {found or 'empty'}, this version needs {head()}: "
            "run `linekeeper migrate`"
        )
    await check_key(store)


def describe(error: Exception) -> str:
    """A database error in one line with what to do; no values and no statement in it."""
    cause = str(getattr(error, "orig", None) or error).splitlines()[0]
    if "readonly" in cause or "read-only" in cause:
        return "the database is read-only: give this user write access to it and its folder"
    if "disk is full" in cause or "No space left" in cause:
        return "the database's disk is full: make room; nothing was written"
    if "locked" in cause:
        return "the database is locked by another process: try again, or find who holds it"
    if isinstance(error, OSError) or "connect" in cause.lower():
        return f"the database does not answer ({cause}): check LINEKEEPER_DATABASE_URL"
    return f"the database refused: {cause}"


def schema_of(connection: Connection) -> str | None:
    """The schema version of a database; None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


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


async def _served(store: Store) -> list[str]:
    async with store.read() as session:
        named = select(col(AppSetting.value)).where(col(AppSetting.name) == SERVES)
        value = await session.scalar(named)
    return store.cipher.decrypt(value).split(",") if value else []


def _known(config: Config) -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}


def _upgrade(connection: Connection) -> None:
    known = _known(_config())
    found = schema_of(connection)
    if found is not None and found not in known:
        raise StoreError(
            f"the database's schema {found} is newer than this version of Linekeeper: "
            "upgrade Linekeeper, or restore the backup taken before the upgrade"
        )
    build_schema(connection, "head")


async def check_key(store: Store) -> None:
    """Write a known text under our key the first time; afterwards it must read back.

    Raises `KeyProblem` where it doesn't: the database was written, or rotated, with other keys.
    """
    async with store.read() as session:
        found = await session.get(AppSetting, KEY_CHECK)
    if found is None:
        row = {
            "name": KEY_CHECK,
            "value": store.cipher.encrypt(KEY_CHECK),
            "updated_at": utcnow(),
        }
        async with store.write() as session:
            await insert_ignore(store, session, AppSetting, [row])
            found = await session.get_one(AppSetting, KEY_CHECK)
    store.cipher.decrypt(found.value)
