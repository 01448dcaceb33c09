"""Batches into SQLite: one thread, the driver itself, one statement for many rows.

A statement for many rows lets go of Python's lock once, not once a row, which with a busy event
loop beside it is most of the cost.
"""

import asyncio
import functools
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from linekeeper import clock
from linekeeper.inbox.identify import COLUMNS, Delivery, Receipt
from linekeeper.store.engine import chunked
from linekeeper.store.sqlite import DatabaseFile

_COLUMNS = (*COLUMNS[:-1], "next_attempt_at", "body")
_INSERT = f"INSERT INTO webhook_event ({', '.join(_COLUMNS)}, source, status, attempts) VALUES "  # noqa: S608 - our own names
_ROW = f"({', '.join('?' * len(_COLUMNS))}, 'webhook', 'pending', 0)"
_MOST = 128
"""Rows in one statement."""


@functools.cache
def _statement(rows: int) -> str:
    return f"{_INSERT}{', '.join([_ROW] * rows)} ON CONFLICT DO NOTHING"


_FIND = (
    "SELECT id, connection_ref FROM webhook_event WHERE app = ? AND delivery_key = ?"
    " UNION ALL SELECT id, connection_ref FROM webhook_event WHERE merge_key = ? LIMIT 1"
)


class SqliteWriter:
    """Writes to the database file `path`; waits at most `seconds` for another writer."""

    at_once = 2
    """One is written; the next waits in the thread's queue."""

    def __init__(self, path: str, *, seconds: float) -> None:
        self._path = path
        self._file = DatabaseFile(Path(path))
        self._seconds = seconds
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="webhook-intake")

    async def write(self, take: Callable[[], Sequence[Delivery]]) -> Sequence[Receipt]:
        """See `Writer`. Raises `sqlite3.Error`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._write, take)

    async def close(self) -> None:
        """See `Writer`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    def _write(self, take: Callable[[], Sequence[Delivery]]) -> Sequence[Receipt]:
        batch = take()
        if not batch:
            return ()
        try:
            self._file.require()
            connection = self._connection or self._connect()
            receipts: Sequence[Receipt] = ()
            if not self._is_written_at_once(connection, batch):
                receipts = self._write_or_find(connection, batch)
            self._file.require()  # also what was written meanwhile is where others look for it
        except BaseException:
            self._disconnect()  # rolls back; the next batch opens it anew
            raise
        return receipts or [Receipt(row.id, True) for row in batch]

    def _is_written_at_once(
        self, connection: sqlite3.Connection, batch: Sequence[Delivery]
    ) -> bool:
        """Whether one statement, its own transaction, stored all of `batch` as new.

        This is the common case. A transaction around it would let go of Python's lock twice more.
        """
        if len(batch) > _MOST:
            return False
        try:
            return self._insert(connection, batch) == len(batch)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return False

    def _write_or_find(
        self, connection: sqlite3.Connection, batch: Sequence[Delivery]
    ) -> Sequence[Receipt]:
        """Store what is not there yet. A row of `batch` that is there already counts as new."""
        self._begin(connection)
        if sum(self._insert(connection, rows) for rows in chunked(batch, _MOST)) == len(batch):
            receipts = [Receipt(row.id, True) for row in batch]
        else:
            receipts = [_find(connection, row) for row in batch]
        connection.execute("COMMIT")
        return receipts

    def _insert(self, connection: sqlite3.Connection, rows: Sequence[Delivery]) -> int:
        return connection.execute(_statement(len(rows)), _values(rows)).rowcount

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Take the write lock. Asks more often than SQLite itself would: commits are short."""
        deadline = clock.monotonic() + self._seconds
        pause = 0.0005
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or clock.monotonic() > deadline:
                    raise
                clock.sleep(pause)
                pause = min(pause * 1.5, 0.01)
            else:
                return

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=0, isolation_level=None, cached_statements=2 * _MOST
        )
        connection.execute("PRAGMA synchronous=FULL")
        self._connection = connection
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def _values(rows: Sequence[Delivery]) -> list[Any]:
    values: list[Any] = []
    for row in rows:
        received = _text(row.received_at)
        event_at = None if row.event_at is None else _text(row.event_at)
        values += row[:9]
        values += (event_at, row.ordering_key, row.rank, received, row.headers, received, row.body)
    return values


def _find(connection: sqlite3.Connection, row: Delivery) -> Receipt:
    event_id, ref = connection.execute(_FIND, (row.app, row.delivery_key, row.merge_key)).fetchone()
    return Receipt(event_id, event_id == row.id, ref)


def _text(value: datetime) -> str:
    return value.isoformat(timespec="microseconds")
