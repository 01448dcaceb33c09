"""`linekeeper up` restarts a part that hangs, and people are notified of it."""

import asyncio
import os
import socket
import sys
import time
from pathlib import Path

from sqlmodel import col, select

from linekeeper.cli.restarts import notify_of_restart, restart_what_hangs
from linekeeper.cli.supervisor import Child, Supervisor
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Outbox
from linekeeper.watch.queries import beat, read_parts


async def test_a_child_that_hangs_is_killed_started_again_and_said(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"watch_minutes": 0.02})
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def restarted(name: str, how: str) -> None:
        await notify_of_restart(settings, name, how, heard.put_nowait)
        heard.put_nowait(f"{name}: {how}")

    async def receiver_watches() -> None:
        while True:
            await beat(store, "receiver:x", "receiver", "")
            await asyncio.sleep(0.2)

    async with Supervisor(tmp_path / "logs", lambda _: None, restarted) as supervisor:
        sleeping = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)")
        await supervisor.start(Child("consumer", sleeping, dict(os.environ), ready_text="up"))
        pid = supervisor.pid("consumer")
        await beat(store, f"consumer:{socket.gethostname()}:{pid}:0", "consumer", "")
        await beat(store, f"consumer:elsewhere:{pid}:0", "consumer", "")
        beside = [
            asyncio.create_task(receiver_watches()),
            asyncio.create_task(restart_what_hangs(settings, supervisor)),
        ]
        async with asyncio.timeout(60):
            assert await heard.get() == "consumer: killed by SIGKILL"
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        assert supervisor.pid("consumer") not in (None, pid)
    async with store.read() as session:
        assert len(await read_parts(session)) == 3
        payload = await session.scalar(
            select(col(Outbox.payload)).where(col(Outbox.channel) == "slack")
        )
    assert payload is not None
    assert "*consumer* ended (killed by SIGKILL) and was started again" in payload["text"]


async def test_what_was_just_started_is_not_judged_by_the_silence_of_the_one_before(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    """A server needs half a minute to its first word: it was killed again and again, for ever."""
    settings = settings.model_copy(update={"watch_minutes": 0.05})
    kills: list[float] = []
    enough = asyncio.Event()

    def tell(line: str) -> None:
        if "hangs" in line:
            kills.append(time.monotonic())
            if len(kills) == 2:
                enough.set()

    async def others_watch() -> None:
        while True:
            await beat(store, "receiver:x", "receiver", "")
            await beat(store, "consumer:x", "consumer", "")
            await asyncio.sleep(0.2)

    async with Supervisor(tmp_path / "logs", tell) as supervisor:
        sleeping = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)")
        server = Child("Prefect server", sleeping, dict(os.environ), ready_text="up")
        await supervisor.start(server)
        await beat(store, "prefect", "prefect", "")
        beside = [
            asyncio.create_task(others_watch()),
            asyncio.create_task(restart_what_hangs(settings, supervisor)),
        ]
        async with asyncio.timeout(60):
            await enough.wait()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
    assert kills[1] - kills[0] >= 60 * settings.watch_minutes
