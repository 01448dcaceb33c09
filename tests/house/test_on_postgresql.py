"""A test fails that runs on SQLite what PostgreSQL would refuse."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, literal, literal_column, select
from sqlmodel import SQLModel, col

from linekeeper.store import Store
from linekeeper.store.tables import Customer
from tests.databases import make_sqlite
from tests.on_postgresql import Replay, Statements

_PLANTED = col(Customer.name).label("planted")
"""Under a name that no statement of the code has: it would be one of a kind that was run before."""
REFUSED = {
    "a function of SQLite": select(func.group_concat(literal("a")).label("planted")),
    "a word of SQLite": select(_PLANTED).where(col(Customer.name).op("GLOB")("a*")),
    "a column that is not grouped by": select(_PLANTED, func.count()).group_by(col(Customer.slug)),
    "a number as text": select(_PLANTED).where(col(Customer.name) == literal_column("1")),
    "what is no id": select(_PLANTED).where(col(Customer.id) == "x"),
}


async def _run(home: Path, statement: Any) -> None:
    async with Store.open(await make_sqlite(home)) as store:
        async with store.engine.begin() as connection:
            await connection.run_sync(SQLModel.metadata.create_all)
        async with store.read() as session:
            await session.execute(statement)


def _noted(statements: Statements, home: Path, statement: Any) -> list[Any]:
    statements.take()
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(_run(home, statement))
    return statements.take()


@pytest.mark.parametrize("which", REFUSED)
def test_what_only_sqlite_takes_is_refused(
    which: str, statements: Statements, replay: Replay, tmp_path: Path
) -> None:
    noted = _noted(statements, tmp_path / "home", REFUSED[which])
    assert len(noted) == 1
    with pytest.raises(AssertionError, match="PostgreSQL refuses"):
        replay.run(noted)


def test_what_both_take_is_run_whatever_rows_it_needs(
    statements: Statements, replay: Replay, tmp_path: Path
) -> None:
    several = select(_PLANTED).where(col(Customer.name).in_(["a", "b", "c"]))
    noted = _noted(statements, tmp_path / "home", several.order_by(func.length(col(Customer.slug))))
    assert len(noted) == 1
    replay.run(noted)
