"""Real parts that live and do nothing: one loops, one gets no connection to the database any more.

Each counts as gone: the other one notices, says so in Slack, and says when it is over.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.engine import make_engine
from tests.flows.conftest import on_both
from tests.watch import looping
from tests.watch.test_parts import PATIENCE, housed, sweeps_and_reconciles

__all__ = ["sweeps_and_reconciles"]
pytestmark = pytest.mark.timeout(4 * PATIENCE)
FEWEST = {"LINEKEEPER_DATABASE_POOL": "4"}


@on_both
@pytest.mark.parametrize("name", ["consumer", pytest.param("receiver", marks=pytest.mark.soak)])
@pytest.mark.repeats(
    "watch/test_parts.py::test_a_part_that_hangs_is_noticed_by_the_other_and_cleared"
)
async def test_a_part_that_loops_is_noticed_by_the_other_and_cleared(
    settings: Settings, store: Store, tmp_path: Path, name: str
) -> None:
    alive = tmp_path / "alive"
    launcher = (sys.executable, str(Path(looping.__file__)))
    extra = {name: {"LINEKEEPER_ALIVE_FILE": str(alive)}}
    async with housed(settings, store, tmp_path, extra=extra, within={name: launcher}) as house:
        house.signal(name, looping.BEGIN)
        async with asyncio.timeout(PATIENCE):
            await _works_hard(house.parts[name].process.pid)
        alive.unlink()
        # One that loops while it holds SQLite's lock takes the database with it.
        gone = "can't be used* since" if store.is_sqlite else ""
        await house.says(f"No sign of life from the {name} on ", instead=gone)
        assert not alive.exists()  # whoever runs it hears that it hangs, too
        house.signal(name, looping.END)
        back = "can be used again" if store.is_sqlite else ""
        await house.says(f"{name} on ", "works again", instead=back)
        async with asyncio.timeout(PATIENCE):
            while not alive.exists():
                await asyncio.sleep(0.1)
        assert {part.process.returncode for part in house.parts.values()} == {None}


async def _works_hard(pid: int) -> None:
    """Until it has worked for long, though there is nothing to do."""
    begun = _processor_seconds(pid)
    while _processor_seconds(pid) - begun < looping.SEEN_SECONDS:
        await asyncio.sleep(0.1)


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:13]) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def administering(settings: Settings) -> AsyncIterator[AsyncConnection]:
    """A connection of PostgreSQL's administrator to the database of `settings`."""
    engine = make_engine(settings.resolved_database_url)
    admin = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        yield connection
    await engine.dispose()


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
@pytest.mark.parametrize("name", ["consumer", pytest.param("receiver", marks=pytest.mark.soak)])
async def test_a_part_that_is_out_of_connections_is_noticed_by_the_other_and_cleared(
    settings: Settings, store: Store, tmp_path: Path, name: str
) -> None:
    """Its role may have no more connections: the server refuses it each one."""
    role = f"part_{os.urandom(6).hex()}"
    url = make_url(settings.resolved_database_url)
    own = url.set(username=role).render_as_string(hide_password=False)
    async with administering(settings) as admin:

        async def does(statement: str) -> None:
            await admin.execute(text(statement))

        await does(f"CREATE ROLE {role} LOGIN IN ROLE {url.username or 'postgres'}")
        extra = {name: {**FEWEST, "LINEKEEPER_DATABASE_URL": own}}
        async with housed(settings, store, tmp_path, extra=extra) as house:
            await does(f"ALTER ROLE {role} CONNECTION LIMIT 0")
            await does(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
            )
            await house.says(f"No sign of life from the {name} on ")
            await house.says("database can't be used*", f"the {name} on ")
            await does(f"ALTER ROLE {role} CONNECTION LIMIT -1")
            await house.says(f"{name} on ", "works again")
            await house.says("database can be used again*", f"the {name} on ")
            assert {part.process.returncode for part in house.parts.values()} == {None}
        await does(f"DROP ROLE {role}")


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
@pytest.mark.repeats(
    "watch/test_hanging.py::test_a_part_that_is_out_of_connections_is_noticed_by_the_other_and_cleared"
)
async def test_a_consumer_whose_connections_all_hang_is_noticed_by_the_receiver_and_cleared(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    """Somebody has locked the webhooks' table: each of its connections waits for that."""
    extra = {"consumer": FEWEST}
    async with (
        housed(settings, store, tmp_path, extra=extra) as house,
        administering(settings) as admin,
    ):
        await admin.execute(text("SET idle_in_transaction_session_timeout = 0"))
        await admin.execute(text("BEGIN"))
        await admin.execute(text("LOCK TABLE webhook_event IN ACCESS EXCLUSIVE MODE"))
        await house.says("No sign of life from the consumer on ")
        await admin.execute(text("ROLLBACK"))
        await house.says("consumer on ", "works again")
        assert {part.process.returncode for part in house.parts.values()} == {None}
