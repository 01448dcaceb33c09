"""The schema of a database, and whether this code can work on it; without Alembic.

Every part asks this when it starts, and Alembic costs as much to import as a fifth of the rest.
"""

from contextlib import suppress
from functools import cache
from pathlib import Path

from sqlalchemy import inspect, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.store.engine import Store, insert_ignore
from linekeeper.store.errors import StoreError, trouble_of
from linekeeper.store.tables import AppSetting

MIGRATIONS = Path(__file__).parent / "migrations"
KEY_CHECK = "encryption-key-check"
"""The setting that holds a known text under our key."""
SERVES = "schema-serves"
"""The setting that names the older schemas whose code may work on this one."""


@cache
def head() -> str:
    """The schema version this code is written for: the number of the last migration."""
    return max(file.name.partition("_")[0] for file in MIGRATIONS.glob("versions/[0-9]*_*.py"))


_VERSION = text("SELECT version_num FROM alembic_version")
_KEY_CHECK = select(col(AppSetting.value)).where(col(AppSetting.name) == KEY_CHECK)


def schema_of(connection: Connection) -> str | None:
    """The schema version of a database; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(_VERSION)
    return revision


async def require_current(store: Store) -> None:
    """Raise `StoreError` unless this code can work on the schema.

    That is the one it is written for, or a newer one that says it serves this code too: so old
    consumers and runs go on while a release is rolled out.
    """
    try:
        version, sealed = await _version_and_key(store)
    except (DBAPIError, OSError) as error:
        raise trouble_of(error) from error
    if version != head() and not (version and head() in await _served(store)):
        if version and version > head():
            raise StoreError(
                f"the database's schema {version} is too new for this version of Linekeeper "
                f"(schema {head()})",
                "upgrade Linekeeper",
            )
        raise StoreError(
            f"the database's schema is {version or 'empty'}, this version needs {head()}",
            "run `linekeeper migrate`",
        )
    if sealed is None:
        await check_key(store)
    else:
        store.cipher.decrypt(sealed)


async def _version_and_key(store: Store) -> tuple[str | None, str | None]:
    """The schema version, and the known text; in one look where there is a schema."""
    with suppress(DBAPIError):
        async with store.read() as session:
            version: str | None = await session.scalar(_VERSION)
            return version, await session.scalar(_KEY_CHECK)
    async with store.engine.connect() as connection:
        return await connection.run_sync(schema_of), None


async def check_key(store: Store) -> None:
    """Write a known text under our key the first time; afterwards it must read back.

    Raises `KeyProblem` where it doesn't: the database was written, or rotated, with other keys.
    """
    async with store.read() as session:
        sealed = await session.scalar(_KEY_CHECK)
    if sealed is None:
        row = {
            "name": KEY_CHECK,
            "value": store.cipher.encrypt(KEY_CHECK),
            "updated_at": utcnow(),
        }
        async with store.write() as session:
            await insert_ignore(store, session, AppSetting, [row])
            sealed = (await session.scalars(_KEY_CHECK)).one()
    store.cipher.decrypt(sealed)


async def _served(store: Store) -> list[str]:
    async with store.read() as session:
        named = select(col(AppSetting.value)).where(col(AppSetting.name) == SERVES)
        value = await session.scalar(named)
    return store.cipher.decrypt(value).split(",") if value else []
