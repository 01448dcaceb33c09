"""A session that pays for the ORM only where objects are asked for.

Most of our statements give columns, or change rows by their conditions. SQLAlchemy's session takes
each of them through what it does for objects, which costs as much again as the statement; and a
session is made, and closed in a task of its own, for transactions that have a single statement.
Here such statements go to the connection at once, with the same SQL, and the ORM's session is made
when somebody asks for it.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, CursorResult, Delete, Engine, Select, Subquery, Update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.util.concurrency import greenlet_spawn

from linekeeper.store.pool import Idle
from linekeeper.store.sqlite import FEW, TakesLonger, are_long

_ONLY_HERE: Any = {"synchronize_session": False}


class LeanSession(AsyncSession):
    """An `AsyncSession` of one transaction, which begins with its first statement."""

    def __init__(
        self,
        engine: AsyncEngine,
        idle: "Idle | None" = None,
        begun: Callable[[Connection], bool] | None = None,
    ) -> None:
        """`idle` are connections to take one from and to leave it at; `begun` is called with it
        once its transaction has begun, and says whether its statements wait for nothing."""
        self._engine = engine
        self._idle = idle if idle is not None else Idle(0)
        self._begun = begun
        self._reached: Connection | None = None
        self._made: Session | None = None
        self._is_over = False
        """Whether it was committed: then closing it waits for nothing."""
        self._runs_here = False
        """Whether statements wait for nothing, and need no way to the event loop and back."""

    # What the parent class keeps from its beginning

    @property
    def sync_session(self) -> Session:  # type: ignore[override]
        """The ORM's session, made now if it wasn't."""
        if self._made is None:
            self._made = _Objects(self)
        return self._made

    @property
    def _proxied(self) -> Session:  # type: ignore[override]
        return self.sync_session

    def get_bind(self, *_: Any, **__: Any) -> Engine:
        """Where the database is."""
        return self._engine.sync_engine

    # Reading and writing

    async def execute(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """Execute `statement`; past the ORM where it has nothing to add."""
        if options or not self._is_plain(statement, params):
            return await super().execute(statement, params, **options)
        return await self._ran(statement, params)

    async def scalars(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """Execute `statement`: the first column of each row."""
        if options or not self._is_plain(statement, params):
            return await super().scalars(statement, params, **options)
        return (await self._ran(statement, params)).scalars()

    async def scalar(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """Execute `statement`: the first column of the first row, or None."""
        if options or not self._is_plain(statement, params):
            return await super().scalar(statement, params, **options)
        return (await self._ran(statement, params)).scalar()

    async def connection(self, *_: Any, **__: Any) -> AsyncConnection:
        """The connection, its transaction begun."""
        reached = await greenlet_spawn(self.reach)
        assert reached is not None
        return AsyncConnection._retrieve_proxy_for_target(reached)

    async def flush(self, objects: Any = None) -> None:
        """Write the objects that are new or were changed, if there are any."""
        if self._made is not None:
            await super().flush(objects)

    async def commit(self) -> None:
        """Commit what was done, if anything was."""
        self._runs_here = False
        if self._made is not None:
            await super().commit()
        if self._reached is not None:
            await greenlet_spawn(self._reached.commit)
        self._is_over = True

    async def rollback(self) -> None:
        """Take back what was done since the last commit."""
        self._runs_here = False
        if self._made is not None:
            await super().rollback()
        if self._reached is not None:
            await greenlet_spawn(self._reached.rollback)

    async def close(self) -> None:
        """Roll back what was not committed, and give the connection back."""
        if not self._is_closed_at_once():
            await greenlet_spawn(self._close)

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._is_closed_at_once():
            if error is None and not self._is_over and self._idle.is_others_turn():
                await asyncio.sleep(0)
            return
        if self._is_over:
            await self.close()
        else:
            await super().__aexit__(kind, error, trace)

    def _is_closed_at_once(self) -> bool:
        """Close it where nothing is to be waited for: whether it is closed."""
        if self._reached is not None:
            if not self._idle.takes_at_once(self._reached):
                return False
            self._close()
        return self._made is None

    def _close(self) -> None:
        self._runs_here = False
        reached, made = self._reached, self._made
        self._reached = self._made = None
        try:
            if made is not None:
                made.close()
        finally:
            if reached is not None:
                self._idle.leave(reached)

    def reach(self) -> Connection:
        """The connection, its transaction begun; called where SQLAlchemy may wait."""
        if self._reached is not None:
            return self._reached
        connection = self._idle.take() or self._engine.sync_engine.connect()
        try:
            connection.begin()
            if self._begun is not None:
                self._runs_here = self._begun(connection)
        except BaseException:
            connection.close()
            raise
        self._reached = connection
        return connection

    async def _ran(self, statement: Any, params: Any) -> CursorResult[Any]:
        with suppress(TakesLonger):  # then nothing of it was done
            if self._runs_here and not _takes_long(params):
                result = self._run(statement, params)
                cursor: Any = result.cursor
                if cursor is not None and not cursor.is_read:
                    await greenlet_spawn(cursor.read)
                return result
            if self._reads_here and isinstance(statement, Select):
                return self._run(statement, params)
        return await greenlet_spawn(self._run, statement, params)

    @property
    def _reads_here(self) -> bool:
        """Whether what reads soon needs no way to the event loop and back, as on SQLite."""
        if self._begun is not None or self._engine.dialect.name != "sqlite":
            return False
        return self._reached is not None or self._idle.has_some

    def _run(self, statement: Any, params: Any) -> CursorResult[Any]:
        return self.reach().execute(statement, params)

    def _is_plain(self, statement: Any, params: Any) -> bool:
        """Whether the ORM has nothing to add to `statement`: it gives no objects, and there are
        none that would have to follow it."""
        options = statement._execution_options
        if statement._propagate_attrs.get("compile_state_plugin") != "orm":
            return not options
        if isinstance(statement, Select):
            is_plain = not options and not statement._with_options
            return is_plain and _are_columns(statement._raw_columns)
        if not isinstance(statement, Update | Delete) or isinstance(params, list):
            return False
        has_objects = self._made is not None and len(self._made.identity_map) > 0
        follow_nothing = options == _ONLY_HERE or not (options or has_objects)
        return follow_nothing and _are_columns(statement._returning)


def _takes_long(params: Any) -> bool:
    """Whether a statement with `params` that writes is run in the driver's thread."""
    if isinstance(params, list):
        return len(params) > FEW
    return params is not None and are_long(params.values())


def _are_columns(given: Iterable[Any]) -> bool:
    return all(isinstance(each, ColumnElement | Subquery) for each in given)


class _Objects(Session):
    """The ORM's session, in the transaction of a `LeanSession`."""

    def __init__(self, lean: LeanSession) -> None:
        super().__init__(
            expire_on_commit=False, autoflush=False, join_transaction_mode="control_fully"
        )
        self._lean = lean

    def get_bind(self, *_: Any, **__: Any) -> Connection:
        """The one connection there is."""
        return self._lean.reach()
