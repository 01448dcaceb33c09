"""Statements that are executed again go past SQLAlchemy, and give what it would have given."""

import asyncio
import gc
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError
from sqlmodel import col

from linekeeper.store import Store
from linekeeper.store.engine import insert_ignore
from linekeeper.store.session import LeanSession, run_plain
from linekeeper.store.statements import Rows
from linekeeper.store.tables import AppSetting, AppState

NOW = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
BY_NAMES = (
    select(col(AppSetting.name), col(AppSetting.updated_at))
    .where(col(AppSetting.name).in_(bindparam("names", expanding=True)))
    .where(col(AppSetting.updated_at) >= bindparam("since", type_=col(AppSetting.updated_at).type))
    .order_by(col(AppSetting.name))
)


async def keep(store: Store, names: Sequence[str]) -> None:
    rows = [
        {"name": name, "value": f"of {name}", "updated_at": NOW + timedelta(seconds=number)}
        for number, name in enumerate(names)
    ]
    async with store.write() as session:
        await insert_ignore(store, session, AppSetting, rows)


async def asked(store: Store, statement: Any, params: Any = None) -> Any:
    async with store.read() as session:
        return await session.execute(statement, params)


async def by_sqlalchemy(store: Store, statement: Any, params: Any = None) -> list[Any]:
    async with store.engine.connect() as connection:
        return list((await connection.execute(statement, params or {})).all())


@pytest.mark.parametrize("names", [(), ("a",), ("a", "c"), ("c", "a", "nobody"), ("b",)])
async def test_lists_of_any_length(store: Store, names: Sequence[str]) -> None:
    await keep(store, "abc")
    for _ in range(3):
        params = {"names": list(names), "since": NOW + timedelta(seconds=1)}
        found = await asked(store, BY_NAMES, params)
        assert isinstance(found, Rows) == store.is_sqlite
        rows = found.all()
        assert rows == await by_sqlalchemy(store, BY_NAMES, params)
        assert [row.name for row in rows] == sorted({*names} & {"b", "c"})
        assert all(row.updated_at.tzinfo is UTC for row in rows)


async def test_a_statement_made_from_another_is_another(store: Store) -> None:
    await keep(store, "abc")
    base = select(col(AppSetting.name)).where(col(AppSetting.name).in_(["a", "b", "c"]))
    for _ in range(2):
        assert {row.name for row in await asked(store, base)} == {*"abc"}
        for name in "ab":
            narrow = base.where(col(AppSetting.name) == name)
            for _ in range(2):
                assert [row[0] for row in await asked(store, narrow)] == [name]


async def test_alike_statements_have_each_their_own_values(store: Store) -> None:
    await keep(store, "abc")
    alike = [select(func.count()).where(col(AppSetting.name) >= name) for name in "cba"]
    for _ in range(3):
        counts = [(await asked(store, statement)).scalar_one() for statement in alike]
        assert counts[1] - counts[0] == 1
        assert counts[2] - counts[0] == 2


async def test_all_ways_to_a_result(store: Store) -> None:
    await keep(store, "abc")
    params = {"names": ["a", "b"], "since": NOW}
    assert (await asked(store, BY_NAMES, params)).mappings().all() == [
        {"name": "a", "updated_at": NOW},
        {"name": "b", "updated_at": NOW + timedelta(seconds=1)},
    ]
    assert list((await asked(store, BY_NAMES, params)).keys()) == ["name", "updated_at"]
    [(name, _), *_] = await asked(store, BY_NAMES, params)
    assert name == "a"
    assert (await asked(store, BY_NAMES, params)).first().name == "a"
    assert (await asked(store, BY_NAMES, {"names": [], "since": NOW})).one_or_none() is None
    assert (await asked(store, BY_NAMES, params)).scalars().all() == ["a", "b"]


async def test_changes_are_counted_and_returned(store: Store) -> None:
    await keep(store, "abc")
    change = (
        update(AppSetting)
        .where(col(AppSetting.name) == bindparam("named"))
        .values(value=bindparam("to"))
    )
    for named, changed in (("a", 1), ("nobody", 0), ("b", 1)):
        async with store.write() as session:
            result: Any = await session.execute(change, {"named": named, "to": "new"})
            assert result.rowcount == changed
    remove = (
        delete(AppSetting)
        .where(col(AppSetting.value) == "new", col(AppSetting.name).in_(["a", "b"]))
        .returning(col(AppSetting.name))
    )
    async with store.write() as session:
        assert {*await session.scalars(remove)} == {"a", "b"}
    async with store.write() as session:
        assert (await session.scalars(remove)).all() == []


async def test_many_at_once(store: Store) -> None:
    await keep(store, [f"n{number:03}" for number in range(500)])
    change = (
        update(AppSetting)
        .where(col(AppSetting.name) == bindparam("named"))
        .values(value=bindparam("to"))
    )
    for names in (["n001"], ["n002", "n003"], [f"n{number:03}" for number in range(300)]):
        async with store.write() as session:
            await run_plain(session, change, [{"named": name, "to": name} for name in names])
        for name in names:
            read = select(col(AppSetting.value)).where(col(AppSetting.name) == name)
            assert (await asked(store, read)).scalar_one() == name
    with pytest.raises(StatementError, match="value is required"):
        async with store.write() as session:
            await run_plain(session, change, [{"named": "n001", "to": ""}, {"named": "n002"}])


async def test_json_and_enums_are_converted(store: Store) -> None:
    row = {"app": "one", "budget": {"tokens": 7.5}, "circuit": {}}
    async with store.write() as session:
        await insert_ignore(store, session, AppState, [row])
    read = select(col(AppState.budget)).where(col(AppState.app) == bindparam("app"))
    write = update(AppState).where(col(AppState.app) == bindparam("of")).values(
        budget=bindparam("to", type_=col(AppState.budget).type)
    )  # fmt: skip
    for tokens in (1, 2):
        async with store.write() as session:
            await session.execute(write, {"of": "one", "to": {"tokens": tokens}})
        for _ in range(2):
            assert (await asked(store, read, {"app": "one"})).scalar_one() == {"tokens": tokens}


async def test_what_is_wrong_is_raised_as_ever(store: Store) -> None:
    await keep(store, "ab")
    rename = (
        update(AppSetting)
        .where(col(AppSetting.name) == bindparam("named"))
        .values(name=bindparam("to"))
    )

    async def to(name: str) -> None:
        async with store.write() as session:
            await session.execute(rename, {"named": "a", "to": name})

    for _ in range(2):
        with pytest.raises(IntegrityError) as raised:
            await to("b")
        assert "'b'" not in str(raised.value)
        assert raised.value.orig is not None
    with pytest.raises(DBAPIError):
        await to("\x00" if not store.is_sqlite else None)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(StatementError, match="value is required"):
            await asked(store, BY_NAMES, {"names": ["a"]})
        with pytest.raises(StatementError, match="tzinfo"):
            await asked(store, BY_NAMES, {"names": ["a"], "since": "not a time"})
    async with store.write() as session:
        await session.execute(rename, {"named": "a", "to": "c"})
    assert [row.name for row in await asked(store, BY_NAMES, {"names": ["c"], "since": NOW})] == [
        "c"
    ]


async def test_who_is_cancelled_leaves_a_connection_that_nobody_takes(store: Store) -> None:
    await keep(store, "ab")

    async def ask() -> None:
        async with store.read() as session:
            assert isinstance(session, LeanSession)
            while True:
                await session.execute(BY_NAMES, {"names": ["a"], "since": NOW})

    for seconds in (0.0, 0.001, 0.01, 0.02):
        tasks = [asyncio.create_task(ask()) for _ in range(5)]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(each) for each in ended} == {asyncio.CancelledError}
        found = await asked(store, BY_NAMES, {"names": ["a"], "since": NOW})
        assert [row.name for row in found] == ["a"]


async def test_statements_that_are_gone_are_forgotten(store: Store) -> None:
    if not store.is_sqlite:
        return
    kept: Any = store.engine.sync_engine.linekeeper_statements  # type: ignore[attr-defined]
    gc.collect()
    before = len(kept._kept)
    for number in range(50):
        names = [f"n{n}" for n in range(number)]
        await asked(store, select(col(AppSetting.value)).where(col(AppSetting.name).in_(names)))
        await asked(store, select(func.count(), *[col(AppSetting.value).label(n) for n in names])
                    .select_from(AppSetting))  # fmt: skip
    store.engine.sync_engine.clear_compiled_cache()
    gc.collect()
    assert len(kept._kept) <= before + 2
