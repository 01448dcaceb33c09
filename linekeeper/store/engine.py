"""Opening the database: one `Store`, short transactions, the same code on both engines."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

import asyncpg
import orjson
from sqlalchemy import Executable, event, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection as SyncConnection
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.util import await_only
from sqlmodel import SQLModel

from linekeeper.clock import monotonic, utcnow
from linekeeper.groups import to_end
from linekeeper.private import close_folder
from linekeeper.redact import without_values
from linekeeper.settings import Settings
from linekeeper.store.cipher import Cipher, KeyProblem, read_or_make_keys
from linekeeper.store.errors import StoreError
from linekeeper.store.owned import OwnedTasks
from linekeeper.store.pool import ClosingPool, Idle, slots_of
from linekeeper.store.session import LeanSession
from linekeeper.store.sqlite import adapted, connect, file_of
from linekeeper.store.types import table_of

BUSY_SECONDS = 30
POOL = 20
"""Connections a process holds at most, where no setting says otherwise."""
KEPT, KEPT_FROM = 2, 10
"""How many connections are kept out of a pool to SQLite, and from which size of pool on."""


class Store:
    """The database and the key to its secrets. Use as `async with Store.open(settings) as store`.

    `read()` and `write()` give a session in one transaction; `write()` commits at the end of the
    block and rolls back if it raises. On SQLite a writing transaction begins `IMMEDIATE` (DESIGN
    "Nothing is lost"). Keep both short and never wait for the network inside.
    """

    def __init__(
        self, engine: AsyncEngine, cipher: Cipher, *, encrypts_bodies: bool = False
    ) -> None:
        self.engine = engine
        self._idle: Idle = getattr(engine.sync_engine, "linekeeper_idle", Idle(0))
        self._readers, self._writers = slots_of(engine)
        self.cipher = cipher
        self.encrypts_bodies = encrypts_bodies
        """Whether bodies of records are encrypted, as tokens always are."""
        self.run_id: str | None = None
        """The flow run that works with it, if one does."""
        self.owned = OwnedTasks()
        """What must be stored whoever is cancelled; closing the store waits for it."""

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """A store on the database of `settings`; nothing is contacted yet.

        Raises `KeyProblem` where a key is needed and absent, `StoreError` for a URL that is
        neither SQLite nor PostgreSQL.
        """
        close_folder(settings.home)
        engine = make_engine(settings.resolved_database_url, settings.database_pool)
        return cls(
            engine, Cipher(encryption_keys(settings)), encrypts_bodies=settings.encrypt_bodies
        )

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite (one writer at a time) rather than PostgreSQL."""
        return self.engine.dialect.name == "sqlite"

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session that only reads."""
        async with self._readers, LeanSession(self.engine, self._idle) as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A session whose block is one transaction."""
        async with self._writers, LeanSession(self.engine, self._idle, begin_writing) as session:
            yield session
            await session.commit()

    async def clock(self, session: AsyncSession) -> datetime:
        """What time it is for all who share this database, whatever their machines believe.

        PostgreSQL's own clock; SQLite is one machine's, and that machine's clock counts.
        """
        if self.is_sqlite:
            return utcnow()
        now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
        return now

    async def close(self) -> None:
        """Finish what must be stored and give the connections back, whoever is cancelled."""
        await to_end(self.owned.finish, self._idle.close, self.engine.dispose)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def encryption_keys(settings: Settings) -> list[str]:
    """The keys of `settings`, the one that encrypts first; made where `Store.open` may make them.

    Raises `KeyProblem` where they are needed and absent.
    """
    keys = [key.get_secret_value() for key in settings.encryption_keys]
    return keys or _keys_at_home(settings.resolved_database_url, settings.home)


def _keys_at_home(url: str, home: Path) -> list[str]:
    file = home / "encryption-keys"
    if file.exists():
        return read_or_make_keys(file)
    parsed = make_url(url)
    if not parsed.drivername.startswith("sqlite"):
        raise KeyProblem(
            "LINEKEEPER_ENCRYPTION_KEYS is not set: with PostgreSQL the keys are yours to keep. "
            "Make one: python -c 'from cryptography.fernet import Fernet; "
            "print(Fernet.generate_key().decode())'"
        )
    # Looked for again: another process may have made both a moment ago.
    if parsed.database and Path(parsed.database).exists() and not file.exists():
        raise KeyProblem(
            f"{file} is missing, but the database {parsed.database} exists and its secrets need "
            "it: put the file back, or set LINEKEEPER_ENCRYPTION_KEYS"
        )
    return read_or_make_keys(file)


def _to_json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a lone surrogate, or a number beyond 64 bits
        return json.dumps(value)


_SESSION = {
    # Milliseconds: a process that hangs within a transaction would keep its locks for ever.
    "idle_in_transaction_session_timeout": "60000",
    # Statements here take milliseconds; compiling one whose cost is overestimated takes a hundred.
    "jit": "off",
}
"""What PostgreSQL gets to know of every connection."""

_OPTIONS: dict[str, Any] = {
    "poolclass": ClosingPool,
    "json_serializer": _to_json,
    "json_deserializer": json.loads,
    "hide_parameters": True,
}


def make_engine(url: str, pool: int = POOL) -> AsyncEngine:
    """An engine with the pragmas and transaction modes every part relies on.

    It holds at most `pool` connections, of those to PostgreSQL half also while nothing is done.
    """
    try:
        driver = make_url(url).drivername
    except (SQLAlchemyError, ValueError) as error:  # ValueError: a port that is no number
        raise StoreError("LINEKEEPER_DATABASE_URL is not a database URL") from error
    if driver == "postgresql+asyncpg":
        engine = create_async_engine(
            url,
            pool_size=pool // 2,
            max_overflow=pool - pool // 2,
            pool_pre_ping=True,
            pool_timeout=30,
            connect_args={"server_settings": _SESSION},
            **_OPTIONS,
        )
        event.listen(engine.sync_engine, "handle_error", _on_error)
        dialect: Any = engine.sync_engine.dialect
        dialect.do_ping = _ask
        return engine
    if driver != "sqlite+aiosqlite":
        raise StoreError(
            f"LINEKEEPER_DATABASE_URL begins with {driver}://, which is not supported",
            "use postgresql+asyncpg://… or sqlite+aiosqlite:///…",
        )
    parsed = make_url(url)
    file = file_of(parsed.database)
    engine = create_async_engine(
        url,
        creator=lambda: adapted(engine.dialect, connect(parsed, file, timeout=BUSY_SECONDS)),
        pool_size=pool,  # all are kept: opening one, with a thread, costs more than many statements
        max_overflow=0,
        **_OPTIONS,
    )
    event.listen(engine.sync_engine, "handle_error", _on_error)
    event.listen(engine.sync_engine, "connect", _on_sqlite_connect)
    # Not an event: where there is one, SQLAlchemy asks about events at every step of a statement.
    sync: Any = engine.sync_engine
    sync.dialect.do_begin = _on_sqlite_begin
    sync.linekeeper_idle = Idle(KEPT if pool >= KEPT_FROM else 0)  # for all stores on it
    return engine


def _ask(connection: Any) -> bool:
    """Whether PostgreSQL still answers, by one round trip: SQLAlchemy's own way makes three."""
    try:
        await_only(connection.driver_connection.execute("SELECT"))
    except Exception as error:
        connection._handle_exception(error)
    return True


def _on_error(context: ExceptionContext) -> None:
    """Take the values out of what a database says of a failure: names, addresses, keys.

    Whoever logs the error, or keeps it, then can't write them down.
    """
    error: BaseException | None = context.sqlalchemy_exception or context.original_exception
    while error is not None:
        error.args = tuple(without_values(a) if isinstance(a, str) else a for a in error.args)
        if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
            for name in ("detail", "hint", "where", "internal_query"):
                setattr(error, name, None)
            error.__cause__ = error.__context__ = None  # the codec's, which quotes the value
        error = getattr(error, "orig", None) or error.__cause__


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by us alone
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA page_size=8192")  # of a new file: of 4 KB, a webhook of 2 KB fills one
    _write_ahead(cursor)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """Switch a new database to WAL; SQLite waits for nobody there who does the same just now."""
    gives_up = monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > gives_up:
                raise
            await_only(asyncio.sleep(0.02))
        else:
            return


def _on_sqlite_begin(connection: Any) -> None:
    driver: Any = connection.driver_connection
    driver.is_writing = False
    driver.begins_late = True  # with its first statement


def begin_writing(connection: SyncConnection) -> bool:
    """Say that the transaction just begun writes: on SQLite it takes the lock now.

    Returns whether its statements wait for nothing from now on.
    """
    if connection.dialect.name != "sqlite":
        return False
    driver: Any = connection.connection.driver_connection
    driver.begins_late = False
    statement = "BEGIN IMMEDIATE"
    # By the driver: SQLAlchemy's own way to a result nobody reads costs more than the statement.
    cursor = connection.connection.cursor()
    try:
        if driver.file is not None:
            driver.file.require()
        cursor.execute(statement)
    except sqlite3.Error as error:
        raise OperationalError(statement, None, error) from error
    finally:
        cursor.close()
    driver.is_writing = True
    return True


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
        await session.execute(statement, list(rows))


@cache
def ignoring(table: type[SQLModel], *, is_sqlite: bool) -> Any:
    """The statement of `insert_ignore`, for who wants to know what was inserted."""
    return upserting(table, is_sqlite=is_sqlite).on_conflict_do_nothing()


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
        await session.execute(statement, list(rows))


@cache
def _upsert(
    table: type[SQLModel], key: tuple[str, ...], update: tuple[str, ...], *, is_sqlite: bool
) -> Executable:
    """Built once: what it says doesn't depend on the rows."""
    statement = upserting(table, is_sqlite=is_sqlite)
    updating: Executable = statement.on_conflict_do_update(
        index_elements=list(key), set_={name: statement.excluded[name] for name in update}
    )
    return updating


def upserting(table: type[SQLModel], *, is_sqlite: bool) -> Any:
    """An insert of the database's own dialect, which can say what to do about a conflict."""
    dialect: Any = sqlite if is_sqlite else postgresql
    return dialect.insert(table_of(table))
