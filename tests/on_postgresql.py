"""What a test runs on SQLite, PostgreSQL runs too: one statement of each kind, with its values.

So a test shows on SQLite what the code does, and PostgreSQL still takes, plans and runs what the
code says; the test that said it first fails where PostgreSQL refuses it. It runs in a database
without rows, without looking at foreign keys, and is taken back. What only rows can show is shown
by the tests that run on PostgreSQL themselves (`tests.repetitions`).
"""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Table, TextClause, text
from sqlalchemy.dialects.sqlite import dml
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.sql.visitors import iterate
from sqlmodel import SQLModel

from linekeeper.store import Store, engine
from tests.databases import Engine, Postgres
from tests.shared_folder import FOLDER
from tests.together import migrate_it, template_of

TWO_FORMS = {
    "json_each(": ("reconcile/partitions.py", "store/lists.py"),
    "instr(": ("explain/deliveries.py", "outbox/about.py"),
}
"""SQLite's own words, and where the code has another form of the same for PostgreSQL."""
AS_TEXT = (
    "consumer/clock_ahead.py",
    "credits/queries.py",
    "incidents/conclude.py",
    "incidents/findings.py",
    "notify/evaluate.py",
    "reconcile/queries.py",
    "store/migrate.py",
    "store/schema.py",
    "store/tables/health.py",
    "store/tables/house.py",
    "store/tables/inbox.py",
    "store/tables/records.py",
)
"""Where the code writes SQL as text: for one of the databases, or the indexes of its tables. It is
not run again, nor are the tests' own statements, which are text."""
_LIST = re.compile(r"\?(?:, \?)+")
_ROWS = re.compile(r"(\([^()]*\?[^()]*\))(?:, \([^()]*\?[^()]*\))+")
_IS_THERE = "23505"
"""PostgreSQL's code of a row whose key is taken: migrating writes a few."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One as SQLAlchemy was given it, and its values."""

    clause: Any
    values: Any
    on_sqlite: str


@dataclass
class Statements:
    """What this process runs on SQLite: of each kind the first, unless another worker has it."""

    _exactly: set[object] = field(default_factory=set)
    _kinds: set[object] = field(default_factory=set)
    _new: list[Statement] = field(default_factory=list)
    _is_migrating: bool = False

    def take(self) -> list[Statement]:
        """What was noted since the last time."""
        taken, self._new = self._new, []
        return taken

    def note(self, statement: str, values: Any, context: Any) -> None:
        """Keep it if none of its kind was run before."""
        types = tuple(map(type, values))
        if (statement, types) in self._exactly or self._is_migrating:
            return
        self._exactly.add((statement, types))
        if context is None or context.isddl or context.compiled is None:
            return  # Alembic's, and questions of SQLAlchemy's own about the schema
        kind = (
            _ROWS.sub(r"\1", _LIST.sub("?", statement)),
            " ".join(each.__name__ for each, _ in groupby(types)),
        )
        if kind in self._kinds:
            return
        self._kinds.add(kind)
        clause = context.invoked_statement
        if _is_for_both(clause, statement) and _is_first(kind):
            self._new.append(Statement(clause, _given(context), statement))

    def listen(self, patch: pytest.MonkeyPatch) -> None:
        """Note from now on what is run on SQLite, but for what a migration does."""
        make, upgrade = engine.create_async_engine, command.upgrade

        def make_engine(*args: Any, **options: Any) -> Any:
            made = make(*args, **options)
            dialect: Any = made.sync_engine.dialect
            if dialect.name == "sqlite":
                # No event: where there is one, SQLAlchemy asks at every step of a statement.
                execute, execute_many = dialect.do_execute, dialect.do_executemany

                def do_execute(
                    cursor: Any, statement: str, values: Any, context: Any = None
                ) -> None:
                    self.note(statement, values, context)
                    execute(cursor, statement, values, context)

                def do_execute_many(
                    cursor: Any, statement: str, values: Any, context: Any = None
                ) -> None:
                    self.note(statement, values[0], context)
                    execute_many(cursor, statement, values, context)

                dialect.do_execute, dialect.do_executemany = do_execute, do_execute_many
            return made

        def upgrading(*args: Any, **options: Any) -> None:
            self._is_migrating = True
            try:
                upgrade(*args, **options)
            finally:
                self._is_migrating = False

        patch.setattr(engine, "create_async_engine", make_engine)
        patch.setattr(command, "upgrade", upgrading)
        # An insert of SQLite's own differs from PostgreSQL's in this alone: it names no constraint.
        patch.setattr(dml.OnConflictClause, "constraint_target", None, raising=False)


class Replay:
    """A migrated database of PostgreSQL in which statements are run and taken back."""

    def __init__(self, runner: asyncio.Runner, store: Store) -> None:
        self._runner = runner
        self._store = store

    @classmethod
    @contextmanager
    def open(cls, postgres: Postgres, home: Path) -> Iterator["Replay"]:
        """On a database of its own, and a loop: the tests' runs only within a test."""

        async def make() -> Store:
            makes = Engine("postgresql", postgres.make, postgres.drop)
            template = await template_of(makes, "migrated", migrate_it)
            return Store.open(await postgres.make(home, template=template))

        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            store = runner.run(make())
            try:
                yield cls(runner, store)
            finally:
                runner.run(store.close())

    def run(self, statements: list[Statement]) -> None:
        """Raises `AssertionError` with those that PostgreSQL refuses, and why."""
        refused = self._runner.run(self._run(statements))
        assert not refused, "PostgreSQL refuses what SQLite ran:\n" + "\n".join(refused)

    async def _run(self, statements: list[Statement]) -> list[str]:
        refused = []
        async with self._store.engine.connect() as connection, connection.begin() as whole:
            # As a replica it looks at no foreign keys: rows of other tables aren't here.
            await connection.execute(text("SET LOCAL session_replication_role = replica"))
            for each in statements:
                savepoint = await connection.begin_nested()
                try:
                    result = await connection.execute(each.clause, each.values)
                    if result.returns_rows:
                        result.all()
                except DBAPIError as error:
                    if getattr(error.orig, "sqlstate", None) != _IS_THERE:
                        refused.append(f"{error}\nOn SQLite: {each.on_sqlite}\n")
                except SQLAlchemyError as error:
                    refused.append(f"{error}\nOn SQLite: {each.on_sqlite}\n")
                await savepoint.rollback()
            await whole.rollback()
        return refused


def _given(context: Any) -> Any:
    """The values that came with the statement; those that stand in it are in its clause."""
    names = {name for bound, name in context.compiled.bind_names.items() if not bound.unique}
    expanded = context._expanded_parameters
    rows = [
        {
            name: [row[each] for each in expanded[name]] if name in expanded else row[name]
            for name in names
        }
        for row in context.compiled_parameters[: 2 if context.executemany else 1]
    ]
    return rows if context.executemany else rows[0]


def _is_for_both(clause: Any, statement: str) -> bool:
    """Whether PostgreSQL would get the same: not so of text, nor of tables that were read from a
    database itself, with its types, as a backup does."""
    for each in iterate(clause):
        if isinstance(each, TextClause):
            return False
        if isinstance(each, Table) and each.metadata is not SQLModel.metadata:
            return False
    return not any(word in statement for word in TWO_FORMS)


def _is_first(kind: tuple[str, str]) -> bool:
    """Whether no other worker of this run came upon it before."""
    folder = FOLDER / "replayed"
    folder.mkdir(exist_ok=True)
    try:
        (folder / sha256(" of ".join(kind).encode()).hexdigest()).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
