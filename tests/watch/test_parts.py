"""Real parts, stopped and killed: another notices, says so in Slack, and says when it is over."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text as sql
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.engine import make_engine
from linekeeper.store.tables import Incident
from linekeeper.watch.queries import done, read_parts
from sandbox import Settings as SandboxSettings
from sandbox import serving
from tests.receiver.processes import Part, start

WATCH_MINUTES = 0.2
PATIENCE = 600
"""Seconds for what takes twelve on a machine that does nothing else, and a minute more where the
part that is stopped held a lock of PostgreSQL."""
pytestmark = pytest.mark.timeout(4 * PATIENCE)


class House:
    """A receiver and a consumer on one database, and the Slack they speak to."""

    def __init__(self, messages: Callable[[], list[dict[str, Any]]]) -> None:
        self._messages = messages
        self.parts: dict[str, Part] = {}
        self.environment: dict[str, str] = {}
        """What each part is started with."""

    def texts(self) -> list[str]:
        return [
            str(text)
            for message in self._messages()
            for text in [message["text"], *(reply["text"] for reply in message["replies"])]
        ]

    async def says(self, *words: str, instead: str = "") -> str:
        """Until a message has all `words`, or what may be said `instead`."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for text in self.texts():
                    if all(word in text for word in words) or (instead and instead in text):
                        return text
                await asyncio.sleep(0.2)

    def signal(self, name: str, number: int) -> None:
        os.kill(self.parts[name].process.pid, number)


@asynccontextmanager
async def housed(
    settings: Settings,
    store: Store,
    folder: Path,
    *,
    extra: Mapping[str, Mapping[str, str]] | None = None,
    within: Mapping[str, Sequence[str]] | None = None,
) -> AsyncIterator[House]:
    """Both, which beat; `extra` has settings of one of them, `within` what becomes one of them."""
    box = SandboxSettings(port=0, connections=0, records_per_connection=0)
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(serving(box))
        house = House(sandbox.world.slack.snapshot)
        house.environment = of_both = {
            "LINEKEEPER_WATCH_MINUTES": str(WATCH_MINUTES),
            "LINEKEEPER_SLACK_BOT_TOKEN": box.slack_token,
            "LINEKEEPER_SLACK_CHANNEL": "#linekeeper",
            "LINEKEEPER_SLACK_API_URL": f"{sandbox.url}/slack/api/",
        }
        for name in ("receiver", "consumer"):
            house.parts[name] = part = await start(
                name,
                settings,
                folder / f"{name}.log",
                extra={**of_both, **(extra or {}).get(name, {})},
                within=(within or {}).get(name, ()),
            )
            stack.push_async_callback(part.kill)
        await _all_is_well(store)
        yield house


@pytest.fixture
async def house(settings: Settings, store: Store, tmp_path: Path) -> AsyncIterator[House]:
    async with housed(settings, store, tmp_path) as house:
        yield house


async def _all_is_well(store: Store) -> None:
    """Until receiver and consumer beat for longer than once, and nothing is missed any more.

    On a slow machine the receiver misses a consumer that only just starts, and says so. One that is
    stopped while it takes that back is stopped with a lock.
    """
    async with asyncio.timeout(PATIENCE):
        while True:
            async with store.read() as session:
                beating = {part.kind for part in await read_parts(session) if part.at > part.since}
                missed = await session.scalar(
                    select(Incident.id).where(
                        col(Incident.topic) == "parts", col(Incident.resolved_at).is_(None)
                    )
                )
            if {"receiver", "consumer"} <= beating and missed is None:
                return
            await asyncio.sleep(0.1)


@pytest.fixture(autouse=True)
async def sweeps_and_reconciles(store: Store) -> AsyncIterator[None]:
    """They come by, so that nothing is overdue but what a test is about."""

    async def keep_on() -> None:
        while True:
            await asyncio.sleep(1)
            with suppress(SQLAlchemyError, OSError):
                for work in ("sweep", "reconcile"):
                    await done(store, work)

    working = asyncio.create_task(keep_on())
    yield
    working.cancel()
    await asyncio.wait([working])


AGAIN = pytest.mark.repeats(
    "watch/test_parts.py::test_a_part_that_hangs_is_noticed_by_the_other_and_cleared"
)


@pytest.mark.parametrize(
    ("name", "by"),
    [("consumer", "receiver"), pytest.param("receiver", "consumer", marks=AGAIN)],
)
async def test_a_part_that_hangs_is_noticed_by_the_other_and_cleared(
    house: House, store: Store, name: str, by: str
) -> None:
    sqlite = store.is_sqlite
    house.signal(name, signal.SIGSTOP)
    # One that stops while it holds SQLite's lock takes the database with it, and that is said.
    await house.says(
        f"No sign of life from the {name} on ", instead="can't be used* since" if sqlite else ""
    )
    house.signal(name, signal.SIGCONT)
    await house.says(f"{name} on ", "works again", instead="can be used again" if sqlite else "")
    assert house.parts[by].process.returncode is None


async def test_a_machine_that_slept_says_of_no_part_that_it_is_silent(
    house: House, store: Store
) -> None:
    for name in ("consumer", "receiver"):
        house.signal(name, signal.SIGSTOP)
    await asyncio.sleep(60 * WATCH_MINUTES + 8)
    woke = utcnow()
    for name in ("receiver", "consumer"):
        house.signal(name, signal.SIGCONT)
    async with asyncio.timeout(PATIENCE):
        watching: set[str] = set()
        while not {"receiver", "consumer"} <= watching:
            await asyncio.sleep(0.2)
            async with store.read() as session:
                watching = {part.kind for part in await read_parts(session) if part.at > woke}
    await asyncio.sleep(3)
    assert not [text for text in house.texts() if "No sign of life" in text]


async def test_a_consumer_that_is_killed_is_noticed_by_the_receiver(
    house: House, store: Store
) -> None:
    house.signal("consumer", signal.SIGKILL)
    await house.says("No sign of life from the consumer on ")


async def test_a_consumer_that_ends_in_good_order_is_missed_where_it_was_the_last(
    house: House,
) -> None:
    house.signal("consumer", signal.SIGTERM)
    assert await house.parts["consumer"].process.wait() == 0
    await house.says("No consumer since")
    assert not [text for text in house.texts() if "No sign of life" in text]


@asynccontextmanager
async def no_database(settings: Settings) -> AsyncIterator[None]:
    """Within the block nobody can use the database: nobody gets in, or gets to write."""
    url = settings.resolved_database_url
    if url.startswith("sqlite"):
        file = settings.home / "linekeeper.db"
        connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA busy_timeout=30000")
        # In a thread: who writes may wait for a peer that lives in this loop.
        await asyncio.to_thread(connection.execute, "BEGIN EXCLUSIVE")
        yield
        connection.close()
        return
    name = url.partition("?")[0].rpartition("/")[2]
    engine = make_engine(url.replace(f"/{name}", "/postgres"))
    admin = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.execute(sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        await connection.execute(
            sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": name},
        )
        yield
        await connection.execute(sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    await engine.dispose()


async def test_with_the_database_gone_each_part_says_so_once_and_when_it_is_back(
    house: House, settings: Settings
) -> None:
    gone, back = "database can't be used*", "database can be used again*"
    async with no_database(settings):
        for name in ("receiver", "consumer"):
            await house.says(gone, f"the {name} on ")
        await asyncio.sleep(5)
    for name in ("receiver", "consumer"):
        await house.says(back, f"the {name} on ")
    async with asyncio.timeout(PATIENCE):  # it is said, then noted as said
        while list(settings.home.glob("database-gone-*")):
            await asyncio.sleep(0.2)
    assert [len([text for text in house.texts() if words in text]) for words in (gone, back)] == [
        2,
        2,
    ]


@asynccontextmanager
async def receiver_anew(house: House, settings: Settings, folder: Path) -> AsyncIterator[None]:
    """Another receiver, as a supervisor starts it in place of one that crashed."""
    part = await start("receiver", settings, folder / "anew.log", extra=house.environment)
    yield
    await part.kill()


async def test_of_parts_that_crash_meanwhile_the_next_says_once_that_it_is_back(
    house: House, settings: Settings, tmp_path: Path
) -> None:
    gone, back = "database can't be used*", "database can be used again*"
    async with no_database(settings):
        for name in ("receiver", "consumer"):
            await house.says(gone, f"the {name} on ")
        for part in house.parts.values():
            await part.kill()
    async with receiver_anew(house, settings, tmp_path):
        await house.says(back, "the receiver on ")
        await asyncio.sleep(5)
        said = [len([text for text in house.texts() if words in text]) for words in (gone, back)]
        assert said == [2, 1]
        assert not list(settings.home.glob("database-gone-*"))
