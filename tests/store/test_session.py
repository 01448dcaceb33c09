"""A session goes past the ORM where there is nothing for it to do, and nowhere else."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlmodel import col

from linekeeper.store import Store
from linekeeper.store.session import LeanSession
from linekeeper.store.tables import AppSetting

NOW = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)


def row(name: str, value: str = "as it was") -> AppSetting:
    return AppSetting(name=name, value=value, updated_at=NOW)


async def kept(store: Store) -> dict[str, str]:
    async with store.read() as session:
        rows = await session.execute(
            select(col(AppSetting.name), col(AppSetting.value)).where(
                col(AppSetting.name).like("test%")
            )
        )
        return {row[0]: row[1] for row in rows}


async def test_columns_come_without_an_orm_session(store: Store) -> None:
    async with store.write() as session:
        session.add(row("test"))
    async with store.read() as session:
        assert isinstance(session, LeanSession)
        found = await session.execute(
            select(col(AppSetting.name), col(AppSetting.updated_at)).where(
                col(AppSetting.name) == "test"
            )
        )
        [[name, at]] = found
        count = await session.scalar(select(func.count()).select_from(AppSetting))
        assert session._made is None
        entity = await session.get_one(AppSetting, "test")
        assert isinstance(session._made, Session)
    assert (name, at, entity.value) == ("test", NOW, "as it was")
    assert count is not None
    assert count >= 1


async def test_all_of_a_transaction_is_one_connection(store: Store) -> None:
    async with store.write() as session:
        session.add(row("test"))
        await session.flush()
        await session.execute(update(AppSetting).values(value="changed"))
        values = await session.scalars(
            select(col(AppSetting.value)).where(col(AppSetting.name) == "test")
        )
        assert values.all() == ["changed"]
        await (await session.connection()).execute(
            update(AppSetting).where(col(AppSetting.name) == "test").values(value="again")
        )
    assert await kept(store) == {"test": "again"}


async def test_objects_follow_what_a_statement_changes(store: Store) -> None:
    async with store.write() as session:
        session.add_all([row("test"), row("test two")])
    async with store.write() as session:
        known = await session.get_one(AppSetting, "test")
        await session.execute(
            update(AppSetting).where(col(AppSetting.name) == "test").values(value="changed")
        )
        assert known.value == "changed"
        known.updated_at = NOW + timedelta(days=1)
        await session.execute(delete(AppSetting).where(col(AppSetting.name) == "test two"))
    async with store.read() as session:
        assert (await session.get_one(AppSetting, "test")).updated_at == NOW + timedelta(days=1)
    assert await kept(store) == {"test": "changed"}


async def test_an_update_tells_which_rows_it_changed(store: Store) -> None:
    async with store.write() as session:
        session.add_all([row("test"), row("test two")])
    async with store.write() as session:
        changed = await session.scalars(
            update(AppSetting)
            .where(col(AppSetting.name).like("test%"))
            .values(value="changed")
            .returning(col(AppSetting.name))
        )
        assert sorted(changed) == ["test", "test two"]
        objects = await session.scalars(
            update(AppSetting)
            .where(col(AppSetting.name) == "test")
            .values(value="again")
            .returning(AppSetting)
        )
        assert [each.value for each in objects] == ["again"]


@pytest.mark.parametrize("with_objects", [False, True])
async def test_what_raises_is_rolled_back(store: Store, with_objects: bool) -> None:
    async def change() -> None:
        async with store.write() as session:
            if with_objects:
                session.add(row("test"))
                await session.flush()
            await session.execute(update(AppSetting).values(value="changed"))
            raise RuntimeError("on purpose")

    before = await kept(store)
    with pytest.raises(RuntimeError):
        await change()
    assert await kept(store) == before


async def test_objects_that_break_a_rule_take_the_rest_with_them(store: Store) -> None:
    async with store.write() as session:
        session.add(row("test"))

    async def add_again() -> None:
        async with store.write() as session:
            await session.execute(update(AppSetting).values(value="changed"))
            session.add(row("test"))

    with pytest.raises(IntegrityError):
        await add_again()
    assert await kept(store) == {"test": "as it was"}


async def test_reading_keeps_nothing(store: Store) -> None:
    async with store.write() as session:
        session.add(row("test"))
    async with store.read() as session:
        (await session.get_one(AppSetting, "test")).value = "changed"
        await session.flush()
    assert await kept(store) == {"test": "as it was"}
