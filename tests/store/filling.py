"""Rows in a database of before: an earlier schema's tables, which no model describes any more."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import MetaData, Table, insert
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.migrate import build_schema, migrate
from linekeeper.store.types import UtcDateTime


def as_stored(connection: Connection, value: Any) -> Any:
    """A value as every version writes it into this database."""
    if isinstance(value, datetime):
        return UtcDateTime().process_bind_param(value, connection.dialect)
    return value


def fill(connection: Connection, rows: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Write `rows`, by the names of their tables."""
    metadata = MetaData()
    for name, values in rows.items():
        table = Table(name, metadata, autoload_with=connection)
        for value in values:
            stored = {key: as_stored(connection, item) for key, item in value.items()}
            connection.execute(insert(table).values(**stored))


@asynccontextmanager
async def migrated(
    settings: Settings, before: str, fill_it: Callable[[Connection], None]
) -> AsyncIterator[AsyncSession]:
    """A session on a database of the schema `before` that `fill_it` filled and that is migrated."""
    async with Store.open(settings) as store:
        async with store.engine.begin() as connection:
            await connection.run_sync(build_schema, before)
            await connection.run_sync(fill_it)
        assert (await migrate(store))[0] == before
        async with store.read() as session:
            yield session
