"""Connections that nobody uses just now, and what becomes of those that come back late."""

import asyncio
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from sqlalchemy.util.concurrency import greenlet_spawn

WAIT_SECONDS = 30
"""Seconds after which who waits for a place gives up: somebody keeps theirs."""
TURN = 4
"""So many transactions that only read may follow each other before others have the event loop."""


class ClosingPool(AsyncAdaptedQueuePool):
    """A pool that has an end: what is given back to it after that is closed.

    SQLAlchemy's own keeps it, and nobody closes it: whoever is at work, or is being cancelled,
    while the store is closed would leave a connection open for as long as the process lives.
    """

    _is_over = False

    def dispose(self) -> None:
        """Close what is here; what comes later is closed as it comes."""
        self._is_over = True
        super().dispose()

    def recreate(self) -> "ClosingPool":
        """The engine's next pool, for who asks after the end."""
        successor = super().recreate()
        assert isinstance(successor, ClosingPool)  # SQLAlchemy makes one of the same class
        successor._is_over = self._is_over
        return successor

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        if not self._is_over:
            super()._do_return_conn(record)
            return
        try:
            record.close()
        finally:
            self._dec_overflow()


class Slots:
    """Lets at most `number` tasks of a process at the database, in the order in which they came.

    Who waits in SQLAlchemy's pool loses the place to whoever comes at the right moment, and who
    waits for SQLite's lock looks only now and then whether it is free: among sixty who write, the
    renewal of a lease came too late.
    """

    def __init__(self, number: int) -> None:
        self._semaphore = asyncio.Semaphore(number)

    async def __aenter__(self) -> None:
        """Wait for a place. Raises SQLAlchemy's `TimeoutError` where none is free in time."""
        if not self._semaphore.locked():
            await self._semaphore.acquire()
            return
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._semaphore.acquire()
        except TimeoutError as error:
            raise PoolTimeout(f"no place at the database was free for {WAIT_SECONDS} s") from error

    async def __aexit__(self, *_: object) -> None:
        self._semaphore.release()


def slots_of(engine: AsyncEngine) -> tuple[Slots, Slots]:
    """The places of those who read and of those who write: together as many as the pool holds."""
    pool: Any = engine.pool
    size = pool.size() + pool._max_overflow
    writers = 1 if engine.dialect.name == "sqlite" else max(size // 2, 1)
    return Slots(max(size - writers, 1)), Slots(writers)


class Idle:
    """Connections that nobody uses just now, at most `most`.

    To give one back to SQLAlchemy's pool and to take one from it costs as much as a statement.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._connections: list[Connection] = []
        self._sessions = 0
        self._is_over = False

    def is_others_turn(self) -> bool:
        """Whether who read without waiting lets others have the event loop: one time of `TURN`."""
        self._sessions += 1
        return self._sessions % TURN == 0

    @property
    def has_some(self) -> bool:
        """Whether there is one to take."""
        return bool(self._connections)

    def takes_at_once(self, connection: Connection) -> bool:
        """Whether `leave` waits for nothing: it is kept, and what it did can be rolled back so."""
        is_full = self._is_over or len(self._connections) >= self._most
        if is_full or connection.invalidated or connection.closed:
            return False
        driver = connection.connection.driver_connection
        return not connection.in_transaction() or bool(getattr(driver, "only_reads", False))

    def take(self) -> Connection | None:
        """One of them, if there is any."""
        return self._connections.pop() if self._connections else None

    def leave(self, connection: Connection) -> None:
        """Roll back what was not committed, and keep it or close it; called where SQLAlchemy may
        wait."""
        if self._most == 0 or self._is_over:
            connection.close()
            return
        try:
            connection.rollback()
        except BaseException:
            connection.close()
            raise
        # Looked at after the waiting: others came meanwhile.
        is_wanted = not self._is_over and len(self._connections) < self._most
        if is_wanted and not (connection.invalidated or connection.closed):
            self._connections.append(connection)
        else:
            connection.close()

    async def close(self) -> None:
        """Give all of them back to the pool. Who leaves one from now on closes it."""
        self._is_over = True
        while self._connections:
            await greenlet_spawn(self._connections.pop().close)
