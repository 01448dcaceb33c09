"""SQLite's driver: as little to and fro with its thread as there can be, and nothing lost by it."""

import asyncio
import json
import sqlite3
import threading
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import literal_column, select, text
from sqlalchemy.engine import make_url

from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.engine import make_engine
from linekeeper.store.pool import TURN
from linekeeper.store.sqlite import SqliteConnection, connect

KEEP = text("INSERT INTO kept (n) VALUES (:n)")
COUNT = text("SELECT count(*) FROM kept")
NUMBERS = """WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT {})
SELECT n FROM numbers"""


@pytest.fixture
async def store(tmp_path: Path) -> Any:
    """A SQLite with one table."""
    async with Store.open(Settings(home=tmp_path)) as opened:
        async with opened.write() as session:
            await session.execute(text("CREATE TABLE kept (n INTEGER)"))
        yield opened


@pytest.mark.parametrize("count", [0, 1, 999, 1_000, 1_001, 4_500])
async def test_all_rows_come_in_their_order(store: Store, count: int) -> None:
    wanted = list(range(1, count + 1))
    statement = text(NUMBERS.format(count) if count else "SELECT 1 WHERE 1 = 0")
    async with store.read() as session:
        assert list(await session.scalars(statement)) == wanted
    async with store.engine.connect() as connection:
        rows = await connection.stream(statement)
        assert [row[0] async for row in rows] == wanted
        by_portions = await connection.stream(statement, execution_options={"yield_per": 700})
        assert [row[0] async for row in by_portions] == wanted
        async_result = await connection.stream(
            statement
        )  # left half read: what follows is not disturbed
        assert (await async_result.first() is None) is (count == 0)
        await connection.execute(COUNT)


async def test_webhooks_of_two_kilobytes_leave_less_than_half_as_much_again_unused(
    store: Store,
) -> None:
    async with store.write() as session:
        await session.execute(text("ALTER TABLE kept ADD COLUMN body BLOB"))
        await session.execute(
            text(
                f"INSERT INTO kept (n, body) SELECT n, zeroblob(2100) FROM ({NUMBERS.format(999)})"
            )
        )
        pages = await session.scalar(text("SELECT page_count FROM pragma_page_count"))
        size = await session.scalar(text("SELECT page_size FROM pragma_page_size"))
    assert pages * size < 1.5 * 999 * 2_100


async def test_a_file_that_is_there_keeps_its_pages(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "before.db") as other:
        other.execute("PRAGMA page_size=4096")
        other.execute("CREATE TABLE kept (n INTEGER)")
    other.close()
    engine = make_engine(f"sqlite+aiosqlite:///{tmp_path / 'before.db'}")
    async with engine.begin() as connection:
        await connection.execute(KEEP, {"n": 7})
        assert await connection.scalar(COUNT) == 1
        assert await connection.scalar(text("SELECT page_size FROM pragma_page_size")) == 4096
    await engine.dispose()


async def test_many_rows_of_a_transaction_that_writes_are_not_read_in_the_event_loop(
    store: Store,
) -> None:
    threads: Counter[bool] = Counter()

    def seen(number: int) -> int:
        threads[threading.current_thread() is threading.main_thread()] += 1
        return number

    numbers = select(literal_column("seen(n)")).select_from(
        text(f"({NUMBERS.format(3_000)})")  # only as many as are asked for are computed
    )
    async with store.write() as session:
        raw: Any = await (await session.connection()).get_raw_connection()
        await raw.driver_connection.create_function("seen", 1, seen)
        assert list(await session.scalars(numbers)) == list(range(1, 3_001))
    assert threads[True] <= 1_001
    assert threads.total() == 3_000


async def test_many_rows_returned_by_a_write_are_all_written(store: Store) -> None:
    insert = text(f"INSERT INTO kept (n) {NUMBERS.format(3_000)} RETURNING n")
    async with store.write() as session:
        assert len((await session.execute(insert)).all()) == 3_000
        changed = await session.execute(text("UPDATE kept SET n = n + 1 WHERE n <= 10"))
        assert changed.rowcount == 10  # type: ignore[attr-defined]
    async with store.read() as session:
        assert await session.scalar(COUNT) == 3_000


async def test_what_takes_long_to_read_is_read_in_the_thread(store: Store) -> None:
    """What the event loop began of it is begun anew there: no row is missing or comes twice."""
    threads: Counter[bool] = Counter()

    def seen(number: int) -> int:
        threads[threading.current_thread() is threading.main_thread()] += 1
        return number

    async with store.read() as session:
        raw: Any = await (await session.connection()).get_raw_connection()
        await raw.driver_connection.create_function("seen", 1, seen)
        for count in (100, 100_000, 100):
            threads.clear()
            numbers = select(literal_column("seen(n)")).select_from(
                text(f"({NUMBERS.format(count)})")
            )
            assert list(await session.scalars(numbers)) == list(range(1, count + 1))
            assert threads[False] == (count if count > 1_000 else 0)
            assert threads[True] <= 10_000


@pytest.mark.parametrize(("count", "here"), [(100, True), (20_000, False)])
@pytest.mark.parametrize("by", ["session", "connection", "statement"])
async def test_many_rows_that_one_value_brings_are_written_in_the_thread(
    store: Store, count: int, here: bool, by: str
) -> None:
    """A first listing writes thousands of records so: the event loop has others to serve."""
    threads: Counter[bool] = Counter()

    def seen(number: int) -> int:
        threads[threading.current_thread() is threading.main_thread()] += 1
        return number

    bring = text("INSERT INTO kept (n) SELECT seen(value) FROM json_each(:listed) RETURNING n")
    listed = json.dumps(list(range(100_000, 100_000 + count)))
    async with store.write() as session:
        connection = await session.connection()
        raw: Any = await connection.get_raw_connection()
        await raw.driver_connection.create_function("seen", 1, seen)
        executor = connection if by == "connection" else session
        given = {"listed": listed}
        if by == "statement":  # as `store.lists.one_of` has them
            bring, given = bring.bindparams(listed=listed), {}
        assert len((await executor.execute(bring, given or None)).all()) == count
        assert threads == {here: count}
        assert await session.scalar(COUNT) == count
    async with store.read() as session:
        assert await session.scalar(COUNT) == count


async def test_what_the_thread_does_asks_nothing_of_python(store: Store, tmp_path: Path) -> None:
    """It would wait for Python's lock each time, and all other writers would wait along."""
    asked: list[str] = []
    within = [False]

    def look(frame: FrameType, event: str, arg: Any) -> None:
        if event in ("c_call", "c_return") and arg.__name__ == "execute":
            within[0] = event == "c_call"
        elif event == "call" and within[0]:
            asked.append(frame.f_code.co_name)

    threading.setprofile(look)
    try:
        async with Store.open(Settings(home=tmp_path)) as another, another.write() as session:
            await session.execute(
                text("INSERT INTO kept (n) SELECT value FROM json_each(:listed)"),
                {"listed": json.dumps(list(range(50_000)))},
            )
    finally:
        threading.setprofile(None)
    assert asked == []


async def test_a_read_makes_no_visit_to_the_thread_nor_does_a_write_where_others_wait(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits = Counter[str]()
    execute = aiosqlite.Connection._execute

    async def counted(self: aiosqlite.Connection, fn: Any, *args: Any, **kwargs: Any) -> Any:
        visits["all"] += 1
        return await execute(self, fn, *args, **kwargs)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(aiosqlite.Connection, "_execute", counted)
    async with store.read() as session:
        assert await session.scalar(COUNT) == 0
        assert await session.scalar(text(f"SELECT count(*) FROM ({NUMBERS.format(100_000)})"))
    assert visits.pop("all") == 1  # that which takes long
    async with store.write() as session:
        await session.execute(KEEP, [{"n": 1}, {"n": 2}])
        assert await session.scalar(COUNT) == 2
    assert visits.pop("all") == 2  # begin, commit
    async with store.write() as session:
        await session.execute(KEEP, [{"n": n} for n in range(1_000)])
    assert visits["all"] == 3  # begin, the many rows, commit


async def test_who_reads_soon_waits_for_nothing_and_others_have_their_turn(store: Store) -> None:
    async def read() -> int:
        async with store.read() as session:
            found = await session.scalar(select(literal_column("1")))
            return int(found or 0) + int(await session.scalar(COUNT) or 0)

    assert await read() == 1  # it opens the connection
    waited = 0
    for _ in range(2 * TURN):
        reading = read()
        with suppress(StopIteration):  # it has ended
            reading.send(None)
            waited += 1
            reading.send(None)
    assert waited == 2


@pytest.mark.parametrize("step", range(6))  # it is opened, told four pragmas, begun
async def test_a_connection_whose_making_is_cancelled_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Left to the garbage collector it keeps its file open, and Python 3.13 warns of it."""
    is_open: dict[int, bool] = {}
    loop, steps = asyncio.get_running_loop(), iter(range(7))

    class Watched(sqlite3.Connection):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            is_open[id(self)] = True
            self.note()

        def note(self) -> None:
            if next(steps, None) == step:
                loop.call_soon_threadsafe(reading.cancel)

        def execute(self, *args: Any) -> sqlite3.Cursor:
            self.note()
            return super().execute(*args)

        def close(self) -> None:
            is_open[id(self)] = False
            super().close()

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Watched))
    async with Store.open(Settings(home=tmp_path)) as store:

        async def read() -> None:
            async with store.read() as session:
                await session.scalar(text("SELECT 1"))

        reading = asyncio.create_task(read())
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert list(is_open.values()) == [False]


AGAIN = pytest.mark.repeats(
    "store/test_sqlite.py::test_a_writer_cancelled_amid_a_statement_leaves_no_transaction"
)


@pytest.mark.parametrize("late", [0.0, pytest.param(0.002, marks=AGAIN), 0.05])
async def test_a_writer_cancelled_amid_a_statement_leaves_no_transaction(
    store: Store, late: float
) -> None:
    """What the thread still did for it, even its `BEGIN`, is rolled back before the next."""

    async def write() -> None:
        async with store.write() as session:
            await session.execute(KEEP, {"n": 1})
            await session.execute(KEEP, [{"n": n} for n in range(150_000)])

    for _ in range(3):
        task = asyncio.create_task(write())
        await asyncio.sleep(late)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with store.read() as session:
            assert await session.scalar(COUNT) == 0
        async with store.write() as session:
            await session.execute(KEEP, {"n": 2})
            await session.rollback()


async def test_what_the_thread_begins_after_its_caller_left_is_rolled_back(tmp_path: Path) -> None:
    connection = await connect(make_url(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"))
    connection.isolation_level = None
    long = f"SELECT count(*) FROM ({NUMBERS.format(300_000)})"
    busy = asyncio.create_task(_run(connection, long))
    begin = asyncio.create_task(_run(connection, "BEGIN IMMEDIATE"))
    await asyncio.sleep(0)
    begin.cancel()
    await connection.rollback()
    await busy
    await _run(connection, "SELECT 1")  # by now all before it has run
    assert not connection.in_transaction
    await connection.close()


async def _run(connection: SqliteConnection, statement: str) -> None:
    await connection.execute(statement)


async def test_options_in_the_address_count_where_we_have_none_of_our_own(tmp_path: Path) -> None:
    url = make_url(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}?timeout=5&cached_statements=7")
    connection = await connect(url, timeout=30)
    await connection.close()


async def test_a_connection_at_hand_keeps_nothing_of_who_used_it_before(store: Store) -> None:
    with suppress(ZeroDivisionError):
        async with store.write() as session:
            await session.execute(KEEP, {"n": 1})
            raise ZeroDivisionError
    async with store.read() as session:
        assert await session.scalar(COUNT) == 0
        async with store.write() as other:  # the reader's transaction doesn't see it
            await other.execute(KEEP, {"n": 2})
        assert await session.scalar(COUNT) == 0
    async with store.read() as session:
        assert await session.scalar(COUNT) == 1


async def test_of_connections_at_hand_there_are_few_and_none_once_the_store_is_closed(
    tmp_path: Path,
) -> None:
    async with Store.open(Settings(home=tmp_path)) as store:
        pool: Any = store.engine.sync_engine.pool

        async def read() -> None:
            async with store.read() as session:
                await session.scalar(text("SELECT 1"))
                await asyncio.sleep(0.01)

        await asyncio.gather(*(read() for _ in range(8)))
        assert pool.checkedout() <= 2
    assert pool.checkedout() == 0
