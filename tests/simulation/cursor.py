"""A cursor of the simulated disk: SQLite asked at once, without the layers of an asynchronous
driver."""

import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from tests.simulation.machine import await_at_once


class DirectCursor:
    """What SQLAlchemy asks of a cursor; in place of two adapters, a lock and three coroutines."""

    server_side = False
    arraysize = 1

    def __init__(self, adapted: Any) -> None:
        self._adapted = adapted
        self._driver = adapted._connection
        self._cursor: sqlite3.Cursor | None = None
        self._rows: deque[Any] = deque()

    @property
    def description(self) -> Any:
        return self._cursor.description if self._cursor is not None else None

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount if self._cursor is not None else -1

    @property
    def lastrowid(self) -> int | None:
        return self._cursor.lastrowid if self._cursor is not None else None

    def execute(self, statement: str, parameters: Sequence[Any] | None = None) -> None:
        """Run `statement`, and take all of its rows."""
        driver = self._driver

        def visit() -> sqlite3.Cursor:
            driver.begin_late()
            cursor: sqlite3.Cursor = driver._conn.execute(statement, parameters or ())
            if cursor.description is not None:
                self._rows = deque(cursor.fetchall())
            return cursor

        self._do(visit)

    def executemany(self, statement: str, parameters: Sequence[Sequence[Any]]) -> None:
        """Run `statement` with each of `parameters`."""
        driver = self._driver

        def visit() -> sqlite3.Cursor:
            driver.begin_late()
            cursor: sqlite3.Cursor = driver._conn.executemany(statement, parameters)
            return cursor

        self._do(visit)

    def _do(self, visit: Any) -> None:
        try:
            if self._driver.is_writing:
                self._cursor = visit()
            else:  # another may hold the lock
                self._cursor = await_at_once(self._driver._execute(visit))
        except Exception as error:
            self._adapted._handle_exception(error)

    def fetchone(self) -> Any:
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        most = min(self.arraysize if size is None else size, len(self._rows))
        return [self._rows.popleft() for _ in range(most)]

    def fetchall(self) -> list[Any]:
        rows = list(self._rows)
        self._rows.clear()
        return rows

    def __iter__(self) -> Iterator[Any]:
        while self._rows:
            yield self._rows.popleft()

    async def _async_soft_close(self) -> None:
        """There is nothing left to close."""

    def setinputsizes(self, *_: Any) -> None:
        """SQLite doesn't need it."""

    def close(self) -> None:
        self._rows.clear()
