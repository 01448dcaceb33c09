"""A receiver that answers and does nothing of itself.

No consumer lives beside it, for which it would deliver to Slack and look at the stream of
webhooks, at any moment on a slow machine.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from linekeeper.receiver import serve
from linekeeper.runtime import Runtime

LOOPS = {"receiver beat", "receiver watch"}
LOOK = "watch of the receiver"
"""A look of the second, which goes on where its loop is cancelled."""


@asynccontextmanager
async def answering(rt: Runtime, listener: socket.socket) -> AsyncIterator[None]:
    """Answer on `listener` for the block; the receiver that was opened last runs no loops."""
    async with serve.serving(rt, listener):
        loops = [task for task in asyncio.all_tasks() if task.get_name() in LOOPS]
        assert len(loops) == len(LOOPS)
        for task in loops:
            task.cancel()
        await asyncio.wait(loops)
        if looking := {task for task in asyncio.all_tasks() if task.get_name() == LOOK}:
            await asyncio.wait(looking)
        yield
