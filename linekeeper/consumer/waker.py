"""Who waits for something to do hears soon that the database changed."""

import asyncio
from typing import Any, NoReturn

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from linekeeper.inbox.postgres_writer import CHANNEL
from linekeeper.store import Store

LOOK_SECONDS = 0.05
"""SQLite's cheap look."""
PULSE_SECONDS = 0.25
"""On PostgreSQL, where only the inbox is announced."""


class Waker:
    """Looks for changes while `run()` runs; `wait()` ends at the next one.

    On SQLite a look is `PRAGMA data_version`, which costs microseconds and sees the writes of
    every process. On PostgreSQL the receiver announces what it stored (NOTIFY); for the rest every
    pulse counts as a change: who waits looks for itself.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pulse = asyncio.Event()
        self.changes = 0
        """How many were seen; take it before looking, and pass it to `wait`."""

    async def run(self) -> NoReturn:
        """Look until cancelled. Errors of the database pass through."""
        if not self._store.is_sqlite:
            await self._listen()
        # One connection for all looks: the version counts what others than itself wrote.
        async with self._store.engine.connect() as connection:
            before = await _version(connection)
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                version = await _version(connection)
                if version != before:
                    before = version
                    self.wake()

    async def _listen(self) -> NoReturn:
        async with self._store.engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            try:
                await driver.add_listener(CHANNEL, lambda *_: self.wake())
                while not driver.is_closed():
                    await asyncio.sleep(PULSE_SECONDS)
                    self.wake()
            finally:
                driver.terminate()  # it listens: it can't go back to the pool
                await connection.invalidate()
        raise ConnectionError("the database closed the connection")

    async def wait(self, seen: int, *, seconds: float) -> None:
        """Return once there was a change after the first `seen`, at the latest after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while self.changes == seen:
                    await self._pulse.wait()
        except TimeoutError:
            return

    def wake(self) -> None:
        """Wake everybody who waits."""
        self.changes += 1
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()


async def _version(connection: AsyncConnection) -> int:
    version = (await connection.execute(text("PRAGMA data_version"))).scalar_one()
    await connection.rollback()
    return int(version)
