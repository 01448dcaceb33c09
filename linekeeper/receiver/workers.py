"""Several receiver processes on one port; one that dies is replaced."""

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from linekeeper.alive import reporting_alive
from linekeeper.receiver.serve import database_or_stop
from linekeeper.settings import Settings

RESTART_SECONDS = 1.0
STOP_SECONDS = 5.0


async def supervise(
    settings: Settings, listener: socket.socket, ready: Callable[[], None], *, workers: int
) -> None:
    """Keep `workers` processes answering on `listener` until SIGINT or SIGTERM.

    They share nothing but the port and the database; each ends by itself if this process dies.
    Raises as `database_or_stop` does: a worker that can't start is started again and again.
    """
    stop = await database_or_stop(settings, listener)
    if stop.is_set():
        return
    with tempfile.TemporaryDirectory(prefix="linekeeper-metrics-") as metrics:
        keepers = [
            asyncio.create_task(_keep(listener.fileno(), Path(metrics), stop))
            for _ in range(workers)
        ]
        async with reporting_alive(settings.alive_file):
            ready()
            await stop.wait()
        await asyncio.gather(*keepers)


async def _keep(descriptor: int, metrics: Path, stop: asyncio.Event) -> None:
    ours = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    while not stop.is_set():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "linekeeper.receiver",
            str(descriptor),
            stdin=asyncio.subprocess.PIPE,  # its end tells the worker that we are gone
            pass_fds=[descriptor],
            env={**ours, "PROMETHEUS_MULTIPROC_DIR": str(metrics)},
        )
        ended = asyncio.create_task(process.wait())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            done, _ = await asyncio.wait({ended}, timeout=STOP_SECONDS)
            if not done:
                process.kill()
                await ended
        stopped.cancel()
        if not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RESTART_SECONDS)
