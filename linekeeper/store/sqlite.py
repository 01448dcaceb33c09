"""SQLite's driver with one visit to its thread a statement, where it makes four by itself.

`aiosqlite` runs SQLite in a thread of its own and goes there for the cursor, for the statement,
for its rows and to close the cursor. A visit costs more than most of our statements do, and where
the event loop is busy each way waits for Python's lock, 5 ms at worst: within a transaction that
writes all other writers wait along. So there, once it has begun, no visit is made at all but for
what may take long: many rows at once, and the commit.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import aiosqlite
from sqlalchemy.engine import URL

from linekeeper.private import make_private_file

_AT_FIRST = 1_000
"""Rows that come along with their statement; what is larger is fetched in portions."""
_FEW = 200
"""Rows that are written without leaving the event loop: a millisecond or two."""


async def connect(url: URL, **options: Any) -> "SqliteConnection":
    """A connection to the database of `url`; `options` are those of `sqlite3.connect`.

    A database that isn't there yet is made for its owner alone.
    """
    if url.database and url.database != ":memory:":
        make_private_file(Path(url.database))
    places, named = url.get_dialect()().create_connect_args(url)
    # Its thread and the event loop's use it by turns, never both at once.
    options = {**named, **options, "check_same_thread": False}
    connection = SqliteConnection(partial(sqlite3.connect, *places, **options), 64)
    connection._thread.daemon = True  # as SQLAlchemy does with those it opens
    await connection
    return connection


class SqliteConnection(aiosqlite.Connection):
    """A connection that goes to its thread as seldom as it can.

    It overrides what `aiosqlite` itself passes everything through (`_execute`, without types), and
    its cursor is not aiosqlite's but what SQLAlchemy asks of one.
    """

    is_writing = False
    """Whether a transaction that writes has begun: its statements run in the event loop."""
    begins_late = False
    """Whether a transaction that only reads is to begin in the visit of its first statement."""
    _unsure = False
    """Whether something may still be under way in the thread, its caller gone."""

    def cursor(self) -> "SqliteCursor":  # type: ignore[override]
        """A cursor that isn't made before its first statement."""
        return SqliteCursor(self)

    async def commit(self) -> None:
        """Commit, in the thread: that waits for the storage."""
        self.is_writing = self.begins_late = False
        await super().commit()

    async def rollback(self) -> None:
        """Roll back, where there is a transaction; after one that only read, at once."""
        may_wait = self._unsure or self.is_writing
        self.is_writing = self.begins_late = False
        if may_wait:
            await super().rollback()
        elif self._conn.in_transaction:
            self._conn.rollback()

    def begin_late(self) -> None:
        """Begin the transaction, if that was put off until now."""
        if self.begins_late:
            self.begins_late = False
            self._conn.execute("BEGIN")

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._unsure = True
        result = await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        self._unsure = False
        return result


class SqliteCursor:
    """What SQLAlchemy asks of an asynchronous driver's cursor."""

    def __init__(self, connection: SqliteConnection) -> None:
        self.arraysize = 1
        self._connection = connection
        self._cursor: sqlite3.Cursor | None = None
        self._rows: list[Any] = []
        self._is_read = True

    async def __aenter__(self) -> Self:
        return self

    @property
    def description(self) -> Any:
        """Of each column its name; None where the statement gives no rows."""
        return self._cursor.description if self._cursor else None

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed; -1 where that isn't known."""
        return self._cursor.rowcount if self._cursor else -1

    @property
    def lastrowid(self) -> int | None:
        """The row last inserted."""
        return self._cursor.lastrowid if self._cursor else None

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        """Run `statement` and bring its first rows along."""

        def visit() -> tuple[sqlite3.Cursor, list[Any]]:
            self._connection.begin_late()
            cursor = self._connection._conn.execute(statement, parameters)
            return cursor, cursor.fetchmany(_AT_FIRST) if cursor.description else []

        here = self._connection.is_writing
        self._cursor, self._rows = visit() if here else await self._connection._execute(visit)
        self._is_read = len(self._rows) < _AT_FIRST

    async def executemany(self, statement: str, parameters: Sequence[Sequence[Any]]) -> None:
        """Run `statement` once with each of `parameters`."""

        def run() -> sqlite3.Cursor:
            self._connection.begin_late()
            return self._connection._conn.executemany(statement, parameters)

        here = self._connection.is_writing and len(parameters) <= _FEW
        self._cursor = run() if here else await self._connection._execute(run)

    async def fetchone(self) -> Any:
        """The next row, or None."""
        rows = await self.fetchmany(1)
        return rows[0] if rows else None

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        """The next `size` rows, or those that are left."""
        size = self.arraysize if size is None else size
        if len(self._rows) < size and not self._is_read and self._cursor:
            wanted = max(size, _AT_FIRST)
            more = await self._connection._execute(self._cursor.fetchmany, wanted)
            self._is_read = len(more) < wanted
            self._rows += more
        rows, self._rows = self._rows[:size], self._rows[size:]
        return rows

    async def fetchall(self) -> list[Any]:
        """All rows that are left."""
        if not self._is_read and self._cursor:
            self._rows += await self._connection._execute(self._cursor.fetchall)
            self._is_read = True
        rows, self._rows = self._rows, []
        return rows

    async def __aiter__(self) -> AsyncIterator[Any]:
        while rows := await self.fetchmany(_AT_FIRST):
            for row in rows:
                yield row

    async def close(self) -> None:
        """Let go of the statement, if it has more to give."""
        self._rows = []
        if not self._is_read and self._cursor:
            await self._connection._execute(self._cursor.close)
            self._is_read = True
