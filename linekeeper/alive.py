"""Reports to whoever runs a part that it works: systemd, and a container's health check.

It says that the part's event loop turns, and nothing of the database: starting a part anew would
not bring that back. A part that is stopped or loops falls silent, and is started anew.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

EVERY_SECONDS = 10.0


@asynccontextmanager
async def reporting_alive(file: Path | None) -> AsyncIterator[None]:
    """Say that the part is ready, and again and again that it works, for the block.

    systemd listens where it asks for it (`Type=notify`, `WatchdogSec=`); `file` is touched.
    Raises `OSError` if that can't be done the first time.
    """
    _report(file, "READY=1\nWATCHDOG=1")
    task = asyncio.create_task(_go_on(file))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _go_on(file: Path | None) -> None:
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        _report(file, "WATCHDOG=1")


def _report(file: Path | None, message: str) -> None:
    if file is not None:
        file.touch()
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        name = f"\0{address[1:]}" if address.startswith("@") else address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(message.encode(), name)
