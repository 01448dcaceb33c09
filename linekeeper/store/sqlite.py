"""SQLite's driver with one visit to its thread a statement, where it makes four by itself.

`aiosqlite` runs SQLite in a thread of its own and goes there for the cursor, for the statement,
for its rows and to close the cursor. A visit costs more than most of our statements do, and where
the event loop is busy each way waits for Python's lock, 5 ms at worst: within a transaction that
writes all other writers wait along. So there, once it has begun, no visit is made at all but for
what may take long: many rows written or read at once, and the commit. Nor is one made for what is
read outside of it, if that is read soon: the way there takes the event loop longer.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite
from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection
from sqlalchemy.engine import URL
from sqlalchemy.util.concurrency import await_only, in_greenlet

from linekeeper.groups import until_ended
from linekeeper.private import close_database, make_private_file, make_private_folder

_PORTION = 1_000
"""Rows that are fetched at once by who reads a result in portions."""
FEW = 200
"""Rows that are written without leaving the event loop: a millisecond or two."""
LONG = 100_000
"""Characters of a value from which on its statement takes longer than that: it brings many rows."""
SOON = 50_000
"""Steps of SQLite's machine after which what is read in the event loop is begun anew in the thread:
a millisecond or two."""
STATEMENTS = 1_000
"""Prepared statements a connection keeps; Python's 128 are fewer than ours, and to prepare one
costs as much as to run it."""
_GONE = "the database's file was moved or removed"


class DatabaseFile:
    """The file of a database, which must be the same for as long as it is used.

    A connection goes on with a file that was moved, removed or replaced, as where a disk was taken
    away: what is written by it nobody finds again. It is good again once the file is back.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[int, int] | None = None

    def require(self) -> None:
        """Raise `sqlite3.OperationalError` unless it is there, and the one that it was."""
        try:
            status = self._path.stat()
        except OSError as error:  # as where its folder is another one now
            raise sqlite3.OperationalError(f"{_GONE}: {(error.strerror or '').lower()}") from None
        found = (status.st_dev, status.st_ino)
        self._known = self._known or found
        if self._known != found:
            raise sqlite3.OperationalError(f"{_GONE}: another one is in its place")

    def make(self) -> None:
        """Make it for its owner alone, unless it is there or was there before."""
        if self._known is None:
            make_private_file(self._path)
        self.require()


def file_of(name: str | None) -> DatabaseFile | None:
    """That of a database, in a folder for its owner alone; None where it is in memory."""
    if not name or name == ":memory:":
        return None
    make_private_folder(Path(name).parent)
    close_database(Path(name))
    return DatabaseFile(Path(name))


async def connect(url: URL, file: DatabaseFile | None = None, **options: Any) -> "SqliteConnection":
    """A connection to the database of `url`; `options` are those of `sqlite3.connect`.

    A database that isn't there yet, and never was, is made for its owner alone.
    """
    if file is not None:
        file.make()
    positional, named = url.get_dialect()().create_connect_args(url)
    # Its thread and the event loop's use it by turns, never both at once.
    options = {"cached_statements": STATEMENTS, **named, **options, "check_same_thread": False}
    connection = SqliteConnection(partial(sqlite3.connect, *positional, **options), 64)
    connection.file = file
    connection._thread.daemon = True  # as SQLAlchemy does with those it opens
    opening = asyncio.create_task(_opened(connection))
    cancelled = await until_ended(opening)
    opening.result()
    if cancelled is not None:
        # `aiosqlite` itself would leave what its thread opens to the garbage collector.
        await connection.close()
        raise cancelled
    return connection


async def _opened(connection: "SqliteConnection") -> None:
    await connection


def are_long(values: Iterable[Any]) -> bool:
    """Whether one of a statement's `values` is so long that it is better run in the thread."""
    return any(type(value) is str and len(value) > LONG for value in values)


def _give_up() -> bool:
    return True


class TakesLonger(Exception):
    """What was to be done in the event loop has to be done in the driver's thread."""


class SqliteConnection(aiosqlite.Connection):
    """A connection that goes to its thread as seldom as it can.

    It overrides what `aiosqlite` itself passes everything through (`_execute`, without types).
    """

    file: DatabaseFile | None = None
    """None where it is in memory."""
    is_writing = False
    """Whether a transaction that writes has begun: its statements run in the event loop."""
    begins_late = False
    """Whether a transaction that only reads is to begin in the visit of its first statement."""
    _unsure = False
    """Whether something may still be under way in the thread, its caller gone."""

    async def commit(self) -> None:
        """Commit, in the thread: that waits for the storage."""
        self.is_writing = self.begins_late = False
        await super().commit()

    async def rollback(self) -> None:
        """Roll back, where there is a transaction; after one that only read, at once."""
        if not self.roll_back_at_once():
            await super().rollback()

    @property
    def only_reads(self) -> bool:
        """Whether its transaction can be rolled back at once."""
        return not (self._unsure or self.is_writing)

    def roll_back_at_once(self) -> bool:
        """Roll back what only read; whether nothing is left to be rolled back in the thread."""
        may_wait = not self.only_reads
        self.is_writing = self.begins_late = False
        if not may_wait and self._conn.in_transaction:
            self._conn.rollback()
        return not may_wait

    def begin_late(self) -> None:
        """Begin the transaction, if that was put off until now."""
        if self.begins_late:
            self.begins_late = False
            self._conn.execute("BEGIN")

    def may_read_here(self, statement: str) -> bool:
        """Whether `statement` only reads, so that it waits for no lock and may be begun anew."""
        return statement.startswith("SELECT") and not self._unsure

    def read_here(self, visit: Callable[[], Any]) -> Any:
        """What `visit` reads. Raises `TakesLonger` where that takes more than `SOON` steps."""
        # Only now: asked of what the thread does, too, it would wait for Python's lock each time.
        self._conn.set_progress_handler(_give_up, SOON)
        try:
            return visit()
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
                raise
        finally:
            self._conn.set_progress_handler(None, 0)
        raise TakesLonger

    async def read_soon(self, visit: Callable[[], Any]) -> Any:
        """What `visit` reads: here, if that takes no longer than `SOON`, else in the thread."""
        try:
            return self.read_here(visit)
        except TakesLonger:
            return await self._execute(visit)

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._unsure = True
        result = await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        self._unsure = False
        return result


class AdaptedConnection(AsyncAdapt_aiosqlite_connection):
    """What SQLAlchemy takes for the driver's connection; its own adapter, with another cursor."""

    _connection: SqliteConnection  # type: ignore[assignment]

    def cursor(self, server_side: bool = False) -> "SqliteCursor":  # type: ignore[override]
        """A cursor that isn't made before its first statement."""
        return SqliteCursor(self, server_side)

    def rollback(self) -> None:
        """Roll back, without a coroutine where nothing is to be waited for."""
        if not (self._connection._connection and self._connection.roll_back_at_once()):
            super().rollback()


def adapted(dialect: Any, connecting: Awaitable[SqliteConnection]) -> AdaptedConnection:
    """What SQLAlchemy keeps in its pool; called where it may wait for `connecting`."""
    driver: Any = await_only(connecting)
    return AdaptedConnection(dialect.dbapi, driver)


class SqliteCursor:
    """What SQLAlchemy asks of a driver's cursor, in place of its adapter of asynchronous ones.

    That makes a coroutine for each step of a statement, takes a lock, and changes over to the
    event loop for it: together they cost as much as the statement.
    """

    arraysize = 1

    def __init__(self, adapted: AdaptedConnection, server_side: bool) -> None:
        self.server_side = server_side
        """Whether the rows are fetched in portions, when they are asked for."""
        self._adapted = adapted
        self._driver = adapted._connection
        self._cursor: sqlite3.Cursor | None = None
        self._rows: deque[Any] = deque()
        self._is_read = True

    @property
    def description(self) -> Any:
        """The columns' names; None where the statement gives no rows."""
        return self._cursor.description if self._cursor else None

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed; -1 where that isn't known."""
        return self._cursor.rowcount if self._cursor else -1

    @property
    def lastrowid(self) -> int | None:
        """The row last inserted."""
        return self._cursor.lastrowid if self._cursor else None

    def execute(self, statement: str, parameters: Sequence[Any] | None = None) -> None:
        """Run `statement` and bring its rows along, or the first of them."""

        def visit() -> sqlite3.Cursor:
            self._driver.begin_late()
            cursor = self._driver._conn.execute(statement, parameters or ())
            if cursor.description is not None:
                in_portions = self.server_side or here
                rows = cursor.fetchmany(_PORTION) if in_portions else cursor.fetchall()
                self._rows = deque(rows)
                self._is_read = not in_portions or len(rows) < _PORTION
            return cursor

        writes = self._driver.is_writing
        here = writes and not are_long(parameters or ())
        soon = not (writes or self.server_side) and self._driver.may_read_here(statement)
        self._cursor = self._do(visit, here=here, soon=soon)
        if not self.server_side and in_greenlet():
            self.read()

    def executemany(self, statement: str, parameters: Sequence[Sequence[Any]]) -> None:
        """Run `statement` once with each of `parameters`."""

        def visit() -> sqlite3.Cursor:
            self._driver.begin_late()
            return self._driver._conn.executemany(statement, parameters)

        here = self._driver.is_writing and len(parameters) <= FEW
        self._cursor = self._do(visit, here=here)

    def _do(self, visit: Callable[[], Any], *, here: bool, soon: bool = False) -> Any:
        try:
            if not in_greenlet():
                if here:
                    return visit()
                if not soon:
                    raise TakesLonger
                return self._driver.read_here(visit)
            if soon:
                return await_only(self._driver.read_soon(visit))
            return await_only(_at_once(visit) if here else self._driver._execute(visit))
        except TakesLonger:
            raise
        except Exception as error:
            self._adapted._handle_exception(error)

    @property
    def is_read(self) -> bool:
        """Whether all rows are at hand."""
        return self._is_read

    def read(self) -> None:
        """Have all rows at hand; those that are left are fetched in the thread."""
        if not self._is_read and self._cursor:
            self._rows += self._do(self._cursor.fetchall, here=False)
            self._is_read = True

    def fetchone(self) -> Any:
        """The next row, or None."""
        self._fetch(1)
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """The next `size` rows, or those that are left."""
        size = self.arraysize if size is None else size
        self._fetch(size)
        return [self._rows.popleft() for _ in range(min(size, len(self._rows)))]

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        self.read()
        rows, self._rows = list(self._rows), deque()
        return rows

    def __iter__(self) -> Iterator[Any]:
        while (row := self.fetchone()) is not None:
            yield row

    def _fetch(self, size: int) -> None:
        """Have at least `size` rows at hand, if there are so many."""
        if self._is_read or len(self._rows) >= size or self._cursor is None:
            return
        wanted = max(size, _PORTION)
        portion = self._do(partial(self._cursor.fetchmany, wanted), here=False)
        self._is_read = len(portion) < wanted
        self._rows += portion

    def close(self) -> None:
        """Let go of the statement, if it has more to give."""
        self._rows.clear()
        if not self._is_read and self._cursor:
            self._is_read = True
            self._do(self._cursor.close, here=False)

    async def _async_soft_close(self) -> None:
        """There is nothing to close once all rows are read."""


async def _at_once(visit: Callable[[], Any]) -> Any:
    """For SQLAlchemy's own asynchronous calls, which demand that something is awaited."""
    return visit()
