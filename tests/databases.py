"""Databases for the tests, made quickly: a migrated one is copied, or used once more, emptied."""

import asyncio
import os
import shutil
from base64 import urlsafe_b64encode
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
from pydantic import SecretStr

from linekeeper.settings import Settings
from tests.shared_folder import FOLDER

KEY = SecretStr(urlsafe_b64encode(sha256(str(FOLDER).encode()).digest()).decode())
"""One for all workers of a run: they copy the same databases."""

_LEFT = """
SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_SCHEMA = """
SELECT md5(concat_ws('/',
  (SELECT string_agg(oid || '.' || xmin, ' ' ORDER BY oid) FROM pg_class WHERE oid >= 16384),
  (SELECT string_agg(attrelid || '.' || attnum || '.' || xmin, ' ' ORDER BY attrelid, attnum)
     FROM pg_attribute WHERE attrelid >= 16384),
  (SELECT string_agg(oid || '.' || xmin, ' ' ORDER BY oid) FROM pg_constraint WHERE oid >= 16384),
  (SELECT string_agg(oid || '.' || xmin, ' ' ORDER BY oid) FROM pg_trigger WHERE oid >= 16384),
  (SELECT string_agg(oid || '.' || xmin, ' ' ORDER BY oid) FROM pg_proc WHERE oid >= 16384),
  (SELECT string_agg(oid || '.' || xmin, ' ' ORDER BY oid) FROM pg_namespace WHERE oid >= 16384),
  (SELECT count(*) FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase
     WHERE d.datname = current_database())))
"""
"""What any change of the schema, or of a database's settings, changes; no row of a table does."""
_TABLES = """
SELECT relname, pg_relation_size(oid) FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname
"""
_LARGEST_BYTES = 4_000_000
"""What holds more was not emptied by many deletes but filled by one test: it is thrown away."""


@dataclass(frozen=True, slots=True)
class Engine:
    """How to make a database on one of the two engines."""

    name: str
    make: Callable[..., Awaitable[Settings]]
    """`await make(home, template=None)`: settings of a new database, a copy of the template."""
    drop: Callable[[Settings], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pristine:
    """What a migrated database looks like in which nobody has written."""

    schema: str
    filled: dict[str, str]
    """The tables in which migrating writes, with their rows as JSON."""


@dataclass
class Postgres:
    """The databases of one PostgreSQL. A copy whose test is over is emptied for the next test.

    Copying one takes a quarter of a second of processor time, emptying one a tenth of that.
    """

    url: str
    _rested: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """By template, its copies that nobody uses."""
    _copied: dict[str, str] = field(default_factory=dict)
    """By copy, its template."""
    _pristine: dict[str, Pristine] = field(default_factory=dict)

    async def make(self, home: Path, template: Settings | None = None) -> Settings:
        name = f"t{os.urandom(6).hex()}"
        if template is None:
            await self._admin(f"CREATE DATABASE {name}")
        else:
            original = database_of(template)
            if original not in self._pristine:
                self._pristine[original] = await self._look(original)
            if self._rested[original]:
                name = self._rested[original].pop()
            else:
                await self._copy(original, name)
                self._copied[name] = original
        url = SecretStr(self.url.replace("/postgres?", f"/{name}?"))
        return Settings(home=home, encryption_keys=(KEY,), database_url=url)

    async def drop(self, settings: Settings) -> None:
        name = database_of(settings)
        original = self._copied.get(name)
        if original is not None and await self._empty(name, self._pristine[original]):
            self._rested[original].append(name)
            return
        self._copied.pop(name, None)
        await self._admin(f"DROP DATABASE {name} WITH (FORCE)")

    async def _copy(self, original: str, name: str) -> None:
        while True:
            try:
                return await self._admin(f"CREATE DATABASE {name} TEMPLATE {original}")
            except asyncpg.ObjectInUseError:  # another worker looks at the template
                await asyncio.sleep(0.1)

    async def _connect(self, database: str) -> Any:
        url = self.url.replace("postgresql+asyncpg://", "postgresql://")
        return await asyncpg.connect(url.replace("/postgres?", f"/{database}?"))

    async def _admin(self, statement: str) -> None:
        connection = await self._connect("postgres")
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def _look(self, database: str) -> Pristine:
        connection = await self._connect(database)
        try:
            schema = await connection.fetchval(_SCHEMA)
            tables = [row[0] for row in await connection.fetch(_TABLES)]
            filled = {}
            for table in tables:
                if (rows := await connection.fetchval(_rows(table))) is not None:
                    filled[table] = rows
            return Pristine(schema, filled)
        finally:
            await connection.close()

    async def _empty(self, database: str, pristine: Pristine) -> bool:
        """Make it as it was at first; False where that can't be done, or would take longer."""
        try:
            connection = await self._connect(database)
        except (asyncpg.PostgresError, OSError):
            return False
        try:
            await connection.execute(_LEFT)
            if await connection.fetchval(_SCHEMA) != pristine.schema:
                return False
            sizes = dict(await connection.fetch(_TABLES))
            if sum(sizes.values()) > _LARGEST_BYTES:
                return False
            changed = {table for table, size in sizes.items() if size}
            for table, rows in pristine.filled.items():
                if await connection.fetchval(_rows(table)) == rows:
                    changed.discard(table)
            deletes = "; ".join(f'DELETE FROM "{table}"' for table in changed)
            async with connection.transaction():
                # As a replica it looks at no foreign keys: the order is no matter.
                await connection.execute(f"SET LOCAL session_replication_role = replica; {deletes}")
                for table in changed & pristine.filled.keys():
                    rows = pristine.filled[table]
                    await connection.execute(_insert(table), rows)
            return True
        except (asyncpg.PostgresError, OSError):
            return False
        finally:
            await connection.close()


def _rows(table: str) -> str:
    return f'SELECT json_agg(row ORDER BY row::text)::text FROM "{table}" AS row'


def _insert(table: str) -> str:
    return f'INSERT INTO "{table}" SELECT * FROM json_populate_recordset(NULL::"{table}", $1)'


def database_of(settings: Settings) -> str:
    """The name of a database of PostgreSQL."""
    return settings.resolved_database_url.partition("?")[0].rpartition("/")[2]


async def make_sqlite(home: Path, template: Settings | None = None) -> Settings:
    """Settings of a home with a database, a copy of the template's."""
    home.mkdir(parents=True, exist_ok=True)
    if template is not None:
        shutil.copy(template.home / "linekeeper.db", home / "linekeeper.db")
    return Settings(home=home, encryption_keys=(KEY,))


async def drop_sqlite(settings: Settings) -> None:
    """Remove it, with its home."""
    shutil.rmtree(settings.home, ignore_errors=True)
