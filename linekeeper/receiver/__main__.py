"""One worker of several: `python -m linekeeper.receiver DESCRIPTOR`, started by `workers`."""

import asyncio
import os
import signal
import socket
import sys

from linekeeper.event_loop import run
from linekeeper.logs import set_up
from linekeeper.private import keep_new_files_private
from linekeeper.receiver.serve import until_stopped
from linekeeper.settings import Settings


async def _work(descriptor: int) -> None:
    with socket.socket(fileno=descriptor) as listener:
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), os.kill, os.getpid(), signal.SIGTERM)
        settings = Settings()
        set_up(settings.log_format)
        await until_stopped(settings, listener, lambda: None)


if __name__ == "__main__":
    keep_new_files_private()
    run(_work(int(sys.argv[1])))
