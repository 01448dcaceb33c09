"""Tasks side by side: what failed is raised as what it is."""

import asyncio

import pytest
from sqlalchemy.exc import OperationalError

from linekeeper.groups import task_group
from linekeeper.store.trouble import is_of_database


async def _fail() -> None:
    raise OperationalError("SELECT 1", None, OSError("disk I/O error"))


async def test_an_error_of_the_database_is_one_for_who_catches_it() -> None:
    async def work() -> None:
        async with task_group() as group:
            group.create_task(_fail())
            group.create_task(asyncio.sleep(60))

    with pytest.raises(OperationalError) as raised:
        await work()
    assert is_of_database(raised.value)
    assert str(raised.value.orig) == "disk I/O error"


async def test_groups_within_groups_hide_nothing_either() -> None:
    with pytest.raises(OperationalError):
        async with task_group(), task_group() as inner:
            inner.create_task(_fail())


async def test_what_the_block_itself_raises_comes_out() -> None:
    async def work() -> None:
        async with task_group() as group:
            group.create_task(asyncio.sleep(60))
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await work()


async def test_without_an_error_all_are_waited_for() -> None:
    done: list[int] = []

    async def step(number: int) -> None:
        await asyncio.sleep(0)
        done.append(number)

    async with task_group() as group:
        for number in range(3):
            group.create_task(step(number))
    assert sorted(done) == [0, 1, 2]


async def test_who_is_cancelled_ends_cancelled() -> None:
    async def work() -> None:
        async with task_group() as group:
            group.create_task(asyncio.sleep(60))

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
