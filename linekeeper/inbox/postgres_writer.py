"""Batches into PostgreSQL: asyncpg itself, one statement, and a call to whoever consumes."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import asyncpg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from linekeeper.inbox.identify import COLUMNS, Delivery, Receipt

CHANNEL = "linekeeper_inbox"
"""What consumers LISTEN to."""

_TYPES = {
    **dict.fromkeys(COLUMNS, "text"),
    "id": "uuid",
    "event_at": "timestamptz",
    "rank": "int",
    "received_at": "timestamptz",
    "headers": "bytea",
    "body": "bytea",
}
_ARRAYS = ", ".join(f"${n}::{_TYPES[name]}[]" for n, name in enumerate(COLUMNS, 1))
_NAMES = ", ".join(COLUMNS)
_INSERT = f"""
WITH stored AS (
  INSERT INTO webhook_event ({_NAMES}, next_attempt_at, source, status, attempts)
  SELECT {_NAMES}, least(received_at, clock_timestamp()), 'webhook', 'pending', 0
  FROM unnest({_ARRAYS}) AS row({_NAMES})
  ON CONFLICT DO NOTHING RETURNING id
), notified AS (
  SELECT pg_notify('{CHANNEL}', '') WHERE EXISTS (SELECT FROM stored)
)
SELECT stored.id::text FROM stored, notified
"""  # noqa: S608 - our own names
_FIND = """
SELECT wanted.id::text AS wanted, event.id::text AS found, event.connection_ref
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS wanted(id, app, key, merge)
JOIN webhook_event event ON event.app = wanted.app AND event.delivery_key = wanted.key
UNION ALL
SELECT wanted.id::text, event.id::text, event.connection_ref
FROM unnest($1::uuid[], $4::text[]) AS wanted(id, merge)
JOIN webhook_event event ON event.merge_key = wanted.merge
"""
_ROUNDS = 5


class PostgresWriter:
    """Writes over one connection of `engine`, made anew when it breaks."""

    at_once = 1

    def __init__(self, engine: AsyncEngine, *, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds
        self._connection: AsyncConnection | None = None
        self._driver: Any = None

    async def write(self, take: Callable[[], Sequence[Delivery]]) -> Sequence[Receipt]:
        """See `Writer`. Raises whatever the driver, the network or the time-out raises."""
        batch = take()
        if not batch:
            return ()
        try:
            async with asyncio.timeout(self._seconds):
                return await self._write(batch)
        except BaseException:
            await self._drop()
            raise

    async def close(self) -> None:
        """See `Writer`."""
        await self._drop()

    async def _write(self, batch: Sequence[Delivery]) -> Sequence[Receipt]:
        if self._driver is None or self._driver.is_closed():  # such as by a restart meanwhile
            await self._drop()
            await self._connect()
        receipts: dict[str, Receipt] = {}
        missing = list(batch)
        for _ in range(_ROUNDS):
            # One order for all processes, so that two of them with the same ids don't deadlock.
            missing.sort(key=lambda row: row.merge_key or row.delivery_key)
            stored = await self._driver.fetch(_INSERT, *map(list, zip(*missing, strict=True)))
            receipts |= {row[0]: Receipt(row[0], True) for row in stored}
            missing = [row for row in missing if row.id not in receipts]
            if missing:
                existing = await self._driver.fetch(
                    _FIND,
                    [row.id for row in missing],
                    [row.app for row in missing],
                    [row.delivery_key for row in missing],
                    [row.merge_key for row in missing],
                )
                receipts |= {row[0]: Receipt(row[1], row[0] == row[1], row[2]) for row in existing}
                # What it repeated may have been claimed between the two statements: it is new now.
                missing = [row for row in missing if row.id not in receipts]
            if not missing:
                return [receipts[row.id] for row in batch]
        raise TimeoutError

    async def _connect(self) -> None:
        self._connection = await self._engine.connect()
        raw = await self._connection.get_raw_connection()
        self._driver = raw.driver_connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.terminate()
        if connection is not None:
            with suppress(SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await connection.invalidate()
                await connection.close()
