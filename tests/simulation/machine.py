"""What a simulated process has in place of the machine's: clock, chance, database driver."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Generator
from datetime import datetime, timedelta
from functools import cache, partial
from hashlib import sha256
from random import Random
from typing import Any

from sqlalchemy.util.concurrency import await_, greenlet_spawn

from linekeeper import clock
from linekeeper.store import sqlite
from tests.simulation.loop import HOST, Contended, VirtualLoop

BUSY_SECONDS = 30.0
WAITS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.025, 0.025, 0.05, 0.05, 0.1)
"""How long SQLite itself sleeps before it tries for a lock again, the last for good."""
WRITES = ("UPDATE", "INSERT", "DELETE")
STATEMENTS = 2_000
"""Prepared statements that a connection keeps."""


class SimClock(clock.Clock):
    """Virtual time, as each host believes it to be; ids and secrets from the seed."""

    def __init__(self, loop: VirtualLoop, rng: Random, start: datetime) -> None:
        self._loop = loop
        self._rng = rng
        self._start = start
        self._ids = 0

    def true_now(self) -> datetime:
        """What time it is in truth."""
        return self._start + timedelta(seconds=self._loop.time())

    def utcnow(self) -> datetime:
        """What time the host that asks believes it is."""
        host = HOST.get()
        return self.true_now() + (host.skew if host else timedelta())

    def monotonic(self) -> float:
        return self._loop.time()

    def sleep(self, seconds: float) -> None:
        raise Contended

    def new_id(self) -> str:
        self._ids += 1
        millis = int(self.utcnow().timestamp() * 1000)
        number = (millis << 80) | (7 << 76) | ((self._ids % 4096) << 64)
        number |= (2 << 62) | ((self._ids >> 12) << 40) | self._rng.getrandbits(40)
        text = f"{number:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def token_bytes(self, size: int) -> bytes:
        return self._rng.randbytes(size)

    def uniform(self, low: float, high: float) -> float:
        return self._rng.uniform(low, high)


class PowerCut(Exception):
    """The host that wanted to commit is no more; nothing of it hears of this."""


class Disk:
    """The one database file of a universe: who waits for work, which statement fails."""

    def __init__(self) -> None:
        self.commits = 0
        self.watchers: list[Callable[[], None]] = []  # called once rows to claim were written
        self.fail: Callable[[str], None] | None = None  # raises where a statement is to fail
        self.idle: list[SimConnection] = []
        """Connections of processes that are gone, for those to come: to read the schema and to
        prepare each statement anew would be a tenth of a universe's time."""

    cut_next: str | None = None
    """The power of a host whose name begins so is cut right after its next commit."""
    cut_after = ""
    """What that transaction has to have written to; empty: anything."""
    cuts_before = False
    """Whether it is cut before that commit instead: what was written is gone."""
    cut_now: Callable[[Any], None] = staticmethod(lambda host: host.cut())

    def commits_now(self, written: str) -> None:
        """Say that a transaction is about to be committed. Raises where the power goes."""
        if self.cuts_before and self._cut(written):
            raise PowerCut

    def _cut(self, written: str) -> bool:
        host = HOST.get()
        is_meant = self.cut_next and host is not None and host.name.startswith(self.cut_next)
        if is_meant and self.cut_after in written:
            self.cut_next = None
            self.cut_now(host)
            return True
        return False

    def committed(self, written: str, *, has_work: bool) -> None:
        """Say that a transaction was committed, and with which statements."""
        self.commits += 1
        self._cut(written)
        if has_work:
            for watcher in list(self.watchers):
                watcher()

    def close(self) -> None:
        """Let go of the file: what hangs for good would hold it, with all that was prepared."""
        for connection in self.idle:
            connection.close()
        self.idle.clear()
        self.watchers.clear()


DISK: Disk = Disk()


@cache
def is_work(statement: str) -> bool:
    """Whether `statement` writes rows of those that the consumer claims."""
    return statement.startswith(WRITES) and ("outbox" in statement or "webhook_event" in statement)


class SimConnection(sqlite3.Connection):
    """SQLite itself, without waiting for locks on a thread and without `fsync`."""

    _written = ""
    """The beginnings of what was written since the last commit, where that is asked for."""
    _has_work = False
    """Whether rows that somebody is to claim may have been written since the last commit."""
    _functions: frozenset[str] = frozenset()

    def create_function(self, name: str, *args: Any, **options: Any) -> None:  # type: ignore[override]
        """Make it once: SQLite forgets every prepared statement where one is made again."""
        if name not in self._functions:
            self._functions |= {name}
            super().create_function(name, *args, **options)

    def execute(self, statement: str, parameters: Any = ()) -> sqlite3.Cursor:  # type: ignore[override]
        if statement.startswith("PRAGMA busy_timeout"):
            statement = "PRAGMA busy_timeout=0"
        elif statement.startswith("PRAGMA synchronous"):
            statement = "PRAGMA synchronous=OFF"
        if DISK.fail is not None and not statement.startswith(("PRAGMA", "BEGIN", "ROLLBACK")):
            DISK.fail(statement)
        # A statement outside a transaction is one of its own, as the receiver writes.
        is_alone = not self.in_transaction and self.isolation_level is None
        wrote = is_alone and statement.startswith(WRITES)
        if wrote or statement.startswith("BEGIN"):
            self._written, self._has_work = "", False
        if wrote:
            self._note(statement)
        wrote |= statement == "COMMIT" and self.in_transaction
        if wrote:
            DISK.commits_now(self._written)
        cursor = super().execute(statement, parameters)
        if wrote:
            DISK.committed(self._written, has_work=self._has_work or is_work(statement))
        else:
            self._note(statement)
        return cursor

    def executemany(self, statement: str, parameters: Any) -> sqlite3.Cursor:  # type: ignore[override]
        cursor = super().executemany(statement, parameters)
        self._note(statement)
        return cursor

    def commit(self) -> None:
        wrote = self.in_transaction
        if wrote:
            if DISK.fail is not None:
                DISK.fail("COMMIT")
            DISK.commits_now(self._written)
        super().commit()
        if wrote:
            DISK.committed(self._written, has_work=self._has_work)

    def _note(self, statement: str) -> None:
        self._has_work |= is_work(statement)
        if DISK.cut_next is not None and statement.startswith(WRITES):
            self._written += f"{statement[:300]}\n"


class _Inline:
    """In place of a driver's thread and its queue: what SQLAlchemy puts in is done at once."""

    daemon = True

    def start(self) -> None:
        """There is nothing to start."""

    def put_nowait(self, item: tuple[asyncio.Future[Any], Callable[[], Any]]) -> None:
        """Do it; it never waits for a lock."""
        future, function = item
        future.set_result(function())


class InlineConnection(sqlite.SqliteConnection):
    """The driver of production, its thread replaced: what it would do there is done at once."""

    def __init__(self, connector: Callable[[], sqlite3.Connection], chunk: int) -> None:
        assert isinstance(connector, partial)
        options = {
            **connector.keywords, "factory": SimConnection, "cached_statements": STATEMENTS,
        }  # fmt: skip
        super().__init__(partial(_connect, *connector.args, **options), chunk)
        inline: Any = _Inline()
        self._thread = inline
        self._tx = inline
        host = HOST.get()
        if host is not None:
            host.handles.append(self._cut)

    async def _connect(self) -> "InlineConnection":
        if self._connection is None:
            self._connection = DISK.idle.pop() if DISK.idle else self._connector()
        return self

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do it; wait in virtual time for another's lock."""
        if self._connection is None:
            raise ValueError("Connection closed")
        host, since, waits = HOST.get(), None, iter(WAITS)
        while True:
            try:
                result = fn(*args, **kwargs)
            except sqlite3.OperationalError as error:
                loop = asyncio.get_running_loop()
                assert isinstance(loop, VirtualLoop)
                since = loop.time() if since is None else since
                if not loop.is_contended(error, since, BUSY_SECONDS):
                    raise
                await asyncio.sleep(next(waits, WAITS[-1]))
            except PowerCut:
                await asyncio.Event().wait()
            else:
                if host is not None and host.dead:
                    await asyncio.Event().wait()  # its power was cut at this commit
                return result

    def stop(self) -> Any:
        """Let go of the database."""
        self._cut()

    async def close(self) -> None:
        """Let go of the database."""
        self._cut()

    def _cut(self) -> None:
        connection, self._connection = self._connection, None
        self._running = False
        if isinstance(connection, SimConnection):
            connection.rollback()
            DISK.idle.append(connection)


def connect_inline(database: str, *args: Any, **options: Any) -> sqlite3.Connection:
    """`sqlite3.connect` as the receiver's own writer calls it, on the simulated disk."""
    connection = _connect(database, *args, **{**options, "factory": SimConnection})
    host = HOST.get()
    if host is not None:
        host.handles.append(connection.close)
    return connection


_connect = observe = sqlite3.connect
"""The real one, whatever `ports` puts in its place: `observe` is for who looks from outside."""


def seed_of(*parts: object) -> int:
    """A seed for one purpose, from the universe's seed and a name."""
    return int.from_bytes(sha256(repr(parts).encode()).digest()[:8])


_SHARED: list[Any] = []


def share_compiled(make: Callable[..., Any]) -> Callable[..., Any]:
    """`create_async_engine`, its engines with one cache of compiled statements for all of them.

    Each run of a flow is a process in production and compiles anew; here that would be half of
    the time a universe takes.
    """

    def engine_of(*args: Any, **options: Any) -> Any:
        engine = make(*args, **options)
        sync = engine.sync_engine
        kind = type(sync.dialect)
        if not _SHARED:
            kind.__eq__ = lambda self, other: type(self) is type(other)
            kind.__hash__ = lambda self: 7
            sync._compiled_cache.capacity = 5_000
            _SHARED.append(sync._compiled_cache)
        sync._compiled_cache = _SHARED[0]
        return engine

    return engine_of


def await_at_once(awaitable: Any) -> Any:
    """SQLAlchemy's `await_`, without a visit to the loop for what has nothing to wait for."""
    if not asyncio.iscoroutine(awaitable):
        return await_(awaitable)
    try:
        waits_for = awaitable.send(None)
    except StopIteration as done:
        return done.value
    return await_(_Rest(awaitable, waits_for))


def spawn_at_once(
    function: Callable[..., Any], *args: Any, _require_await: bool = False, **options: Any
) -> Coroutine[Any, Any, Any]:
    """SQLAlchemy's `greenlet_spawn`, which asks for a driver that waits."""
    return greenlet_spawn(function, *args, **options)


async def at_once(closing: Coroutine[Any, Any, Any]) -> Any:
    """In place of a task that can't be cancelled: closing has nothing to wait for here."""
    return await closing


class _Rest:
    """A coroutine that has begun already, and waits for `waits_for`."""

    def __init__(self, coroutine: Any, waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        waits_for = self._waits_for
        while True:
            try:
                given = yield waits_for
            except BaseException as error:
                step = partial(self._coroutine.throw, error)
            else:
                step = partial(self._coroutine.send, given)
            try:
                waits_for = step()
            except StopIteration as done:
                return done.value
