"""Statements about many rows, on both engines: in portions, and past rows that are there."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Executable
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import SQLModel

from linekeeper.store.engine import Store
from linekeeper.store.types import table_of

T = TypeVar("T")


def chunked(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """`items` in order, at most `size` (at least 1) at a time; nothing for no items."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


async def insert_ignore(
    store: Store, session: AsyncSession, table: type[SQLModel], rows: Sequence[dict[str, Any]]
) -> None:
    """Insert `rows`, all with the same columns; what would break a unique index is left out."""
    if rows:
        statement = ignoring(table, is_sqlite=store.is_sqlite)
        await (await session.connection()).execute(statement, list(rows))


@cache
def ignoring(table: type[SQLModel], *, is_sqlite: bool) -> Any:
    """The statement of `insert_ignore`, for who wants to know what was inserted."""
    return _insert(table, is_sqlite=is_sqlite).on_conflict_do_nothing()


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
    statement = _insert(table, is_sqlite=is_sqlite)
    updating: Executable = statement.on_conflict_do_update(
        index_elements=list(key), set_={name: statement.excluded[name] for name in update}
    )
    return updating


def _insert(table: type[SQLModel], *, is_sqlite: bool) -> Any:
    dialect: Any = sqlite if is_sqlite else postgresql
    return dialect.insert(table_of(table))
