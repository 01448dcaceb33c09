"""Wakes who waits for something to do soon after there is some; one query for all, no lock."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NoReturn

from sqlalchemy import ColumnElement, bindparam, exists, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.inbox.postgres_writer import CHANNEL
from linekeeper.store import Store
from linekeeper.store.tables import Outbox, WebhookEvent
from linekeeper.store.types import UtcDateTime

CONNECTION_WEBHOOKS = "connection webhooks"
RECORD_WEBHOOKS = "record webhooks"
CHANNELS = ("elsewhere", "email", "event", "forward", "reconnect", "run", "slack")
"""The channels of the outbox."""

_NOW: Any = bindparam("now", type_=UtcDateTime)


async def due(connection: AsyncConnection, *, now: datetime) -> Sequence[str]:
    """Return which of the webhooks and channels have something that is due at `now`."""
    rows = await connection.execute(_LOOK, {"now": now})
    return [name for name, waits in rows.mappings().one().items() if waits]


def _webhooks(rank: int) -> ColumnElement[bool]:
    return exists().where(
        # Said in the statement itself, or SQLite doesn't use the index of those pending.
        col(WebhookEvent.status) == literal_column("'pending'"),
        col(WebhookEvent.rank) == rank,
        col(WebhookEvent.next_attempt_at) <= _NOW,
    )


def _channel(channel: str) -> ColumnElement[bool]:
    return exists().where(
        col(Outbox.channel) == channel,
        col(Outbox.status) == "pending",
        col(Outbox.next_attempt_at) <= _NOW,
    )


_LOOK = select(
    _webhooks(0).label(CONNECTION_WEBHOOKS),
    _webhooks(1).label(RECORD_WEBHOOKS),
    *(_channel(channel).label(channel) for channel in CHANNELS),
)


LOOK_SECONDS = 0.04
"""Between two looks whether the database changed, and the least between two at what is due."""
PULSE_SECONDS = 0.25
"""How often PostgreSQL is asked, where only the inbox is announced."""


class Waker:
    """Looks for changes while `run()` runs; `wait()` ends once what it waits for is due.

    On SQLite a look is `PRAGMA data_version`, which costs microseconds and sees the writes of
    every process. On PostgreSQL the receiver announces what it stored (NOTIFY); for the rest every
    pulse counts as a change. After a change one query finds what is due (`waiting`), and only who
    waits for that is woken: somebody who writes other things all the time wakes nobody.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pulses: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.seen: Counter[str] = Counter()
        """How often each was found due; take its count before looking, and pass it to `wait`."""

    async def run(self) -> NoReturn:
        """Look until cancelled. Errors of the database pass through."""
        if not self._store.is_sqlite:
            await self._listen()
        # One connection for all looks: the version counts what others than itself wrote.
        async with self._store.engine.connect() as connection:
            before = -1
            while True:
                version = await _version(connection)
                if version != before:
                    before = version
                    await self._look(connection)
                await asyncio.sleep(LOOK_SECONDS)

    async def _listen(self) -> NoReturn:
        announced = asyncio.Event()
        async with self._store.engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            try:
                await driver.add_listener(CHANNEL, lambda *_: announced.set())
                while not driver.is_closed():
                    async with self._store.engine.connect() as looking:
                        await self._look(looking)
                    await asyncio.sleep(LOOK_SECONDS)
                    await wait_at_most(announced, PULSE_SECONDS - LOOK_SECONDS)
                    announced.clear()
            finally:
                driver.terminate()  # it listens: it can't go back to the pool
                await connection.invalidate()
        raise ConnectionError("the database closed the connection")

    async def _look(self, connection: AsyncConnection) -> None:
        due_now = await due(connection, now=utcnow())
        await connection.rollback()
        for what in due_now:
            self.wake(what)

    async def wait(self, what: str, seen: int, *, seconds: float) -> None:
        """Return once `what` was found due after the first `seen` times, or after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while self.seen[what] == seen:
                    await self._pulses[what].wait()
        except TimeoutError:
            return

    def next(self, what: str, *, seconds: float) -> Callable[[], Awaitable[None]]:
        """What waits until `what` is found due after now, or for `seconds`."""
        return partial(self.wait, what, self.seen[what], seconds=seconds)

    def wake(self, what: str) -> None:
        """Wake who waits for `what`."""
        self.seen[what] += 1
        pulse = self._pulses.pop(what, None)
        if pulse is not None:
            pulse.set()

    def wake_all(self) -> None:
        """Wake everybody who waits."""
        for what in list(self._pulses):
            self.wake(what)


async def _version(connection: AsyncConnection) -> int:
    driver: Any = (await connection.get_raw_connection()).driver_connection
    [[version]] = await driver.execute_fetchall("PRAGMA data_version")
    return int(version)


async def wait_at_most(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
