"""Bulk inserts that meet existing rows, for both engines."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Executable
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import SQLModel

from linekeeper.store.engine import Store

# SQLite takes at most 32,766 variables a statement, PostgreSQL (asyncpg) 32,767.
MAX_VARIABLES = 32_000


def insert_ignore(
    store: Store, table: type[SQLModel], rows: Sequence[dict[str, Any]] | None = None
) -> Executable:
    """Insert `rows`; those that would break a unique index are left out.

    Without `rows` they are handed to `session.execute` beside the statement, which is quicker for
    more than a few.
    """
    statement = _insert(store, table)
    if rows is not None:
        statement = statement.values(list(rows))
    ignoring: Executable = statement.on_conflict_do_nothing()
    return ignoring


async def insert_or_update(
    store: Store,
    session: AsyncSession,
    table: type[SQLModel],
    rows: Sequence[dict[str, Any]],
    *,
    key: Sequence[str],
    update: Sequence[str],
) -> None:
    """Insert `rows`; where `key` exists, set the columns named in `update` instead."""
    if rows:
        statement = _upsert(table, tuple(key), tuple(update), is_sqlite=store.is_sqlite)
        await (await session.connection()).execute(statement, list(rows))


@cache
def _upsert(
    table: type[SQLModel], key: tuple[str, ...], update: tuple[str, ...], *, is_sqlite: bool
) -> Executable:
    """Built once: what it says doesn't depend on the rows."""
    dialect: Any = sqlite if is_sqlite else postgresql
    columns: Any = table.__table__  # type: ignore[attr-defined]  # SQLModel doesn't declare it
    statement = dialect.insert(columns)
    updating: Executable = statement.on_conflict_do_update(
        index_elements=list(key), set_={name: statement.excluded[name] for name in update}
    )
    return updating


def _insert(store: Store, table: type[SQLModel]) -> Any:
    dialect: Any = sqlite if store.is_sqlite else postgresql
    return dialect.insert(table)


def chunks(rows: Sequence[dict[str, Any]], columns: int) -> list[Sequence[dict[str, Any]]]:
    """`rows` in pieces that fit into one statement of `columns` values a row."""
    size = max(1, MAX_VARIABLES // max(1, columns))
    return [rows[start : start + size] for start in range(0, len(rows), size)]
