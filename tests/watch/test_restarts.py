"""`linekeeper up` restarts a part that hangs, and people are notified of it."""

import asyncio
import os
import signal
import socket
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import col, select

from linekeeper import clock
from linekeeper.cli.restarts import (
    notify_of_restart,
    restart_prefect_when_set_back,
    restart_what_hangs,
)
from linekeeper.cli.supervisor import Child, Supervisor
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import Outbox
from linekeeper.store.write_lock import holder_of_write_lock
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
        here = socket.gethostname()
        await beat(store, "consumer:any name", "consumer", here, process_id=pid)
        await beat(store, "consumer:another", "consumer", "elsewhere", process_id=pid)
        await beat(store, f"consumer:{here}:{os.getpid()}:0", "consumer", here)  # of before
        beside = [
            asyncio.create_task(receiver_watches()),
            asyncio.create_task(restart_what_hangs(settings, supervisor)),
        ]
        async with asyncio.timeout(60):
            assert await heard.get() == "consumer: it hung, and was killed"
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        assert supervisor.pid("consumer") not in (None, pid)
    async with store.read() as session:
        assert len(await read_parts(session)) == 4
        payload = await session.scalar(
            select(col(Outbox.payload)).where(col(Outbox.channel) == "slack")
        )
    assert payload is not None
    assert "*consumer* ended (it hung, and was killed) and was started again" in payload["text"]


HOLDS = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("up", flush=True)
time.sleep(600)
"""
STARTS_ONE_THAT_HOLDS = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {HOLDS!r}, sys.argv[1]], start_new_session=True)
"""


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True, scope="session")
@pytest.mark.parametrize("program", [HOLDS, STARTS_ONE_THAT_HOLDS], ids=["part", "run"])
async def test_what_hangs_while_it_holds_the_write_lock_is_killed(
    settings: Settings, store: Store, tmp_path: Path, program: str
) -> None:
    """Nobody leaves a sign of life then, so silence says nothing of who it is."""
    settings = settings.model_copy(update={"watch_minutes": 0.02})
    await beat(store, "receiver:x", "receiver", "")
    reported: list[str] = []
    async with Supervisor(tmp_path / "logs", reported.append) as supervisor:
        assert holder_of_write_lock(settings) is None
        file = str(settings.home / "linekeeper.db")
        holding = (sys.executable, "-c", program, file)
        await supervisor.start(Child("consumer", holding, dict(os.environ), ready_text="up"))
        holder = holder_of_write_lock(settings)
        assert holder is not None
        os.kill(holder, signal.SIGSTOP)
        watching = asyncio.create_task(restart_what_hangs(settings, supervisor))
        async with asyncio.timeout(60):
            while holder_of_write_lock(settings) == holder:
                await asyncio.sleep(0.05)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert sum("hangs:" in line for line in reported) == 1, reported


async def test_what_was_just_started_is_not_judged_by_the_silence_of_the_one_before(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    """A server needs half a minute to its first word: it was killed again and again, for ever."""
    settings = settings.model_copy(update={"watch_minutes": 0.05})
    kills: list[float] = []
    enough = asyncio.Event()

    def keep_line(line: str) -> None:
        if "hangs" in line:
            kills.append(time.monotonic())
            if len(kills) == 2:
                enough.set()

    async def others_watch() -> None:
        while True:
            await beat(store, "receiver:x", "receiver", "")
            await beat(store, "consumer:x", "consumer", "")
            await asyncio.sleep(0.2)

    async with Supervisor(tmp_path / "logs", keep_line) as supervisor:
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


class Set(clock.Clock):
    """A clock that can be set, and that knows how often it was looked at."""

    ahead = timedelta()
    looks = 0

    def utcnow(self) -> datetime:
        self.looks += 1
        return super().utcnow() + self.ahead

    async def seen(self) -> None:
        """Ends once it was looked at some times from now on."""
        until = self.looks + 6
        while self.looks < until:
            await asyncio.sleep(0.01)


async def test_prefects_server_is_started_again_once_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linekeeper.cli.restarts.CLOCK_EVERY", 0.05)
    machine = Set()
    before = clock.use(machine)
    said: list[str] = []
    under_way, asked = True, 0

    async def is_busy() -> bool:
        nonlocal asked
        asked += 1
        return under_way

    monkeypatch.setattr("linekeeper.cli.restarts.QUIET_EVERY", 0.05)
    try:
        async with Supervisor(tmp_path / "logs", said.append) as supervisor:
            waiting = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(99)")
            server = Child("Prefect server", waiting, dict(os.environ), ready_text="up")
            await supervisor.start(server)
            looking = asyncio.create_task(restart_prefect_when_set_back(supervisor, is_busy))
            async with asyncio.timeout(60):
                await machine.seen()
                machine.ahead = timedelta(hours=2)
                await machine.seen()
                assert said == []
                machine.ahead = timedelta(minutes=30)
                while asked < 3:
                    await asyncio.sleep(0.01)
                assert said == []  # a run is being started, which would crash
                under_way = False
                while len(said) < 3:
                    await asyncio.sleep(0.01)
                await machine.seen()
            looking.cancel()
    finally:
        clock.use(before)
    assert said[0] == "the clock was set back by 90 min: Prefect server is started again"
    assert said[1].startswith("Prefect server ended (killed by SIGTERM): starting it again in 1 s")
    assert said[2:] == ["Prefect server was started again"]
