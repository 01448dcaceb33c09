"""A sweep in a process of its own that kills itself before its n-th statement or request.

`python -m tests.health.dying_sweep N` with the settings in the environment; N of 0 lets it live and
prints how many moments there were.
"""

import asyncio
import os
import signal
import sys
from typing import Any

import aiohttp
import pytest
from sqlalchemy import event

from linekeeper.clock import utcnow
from linekeeper.makini.http_client import _Direct
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.sweep.batch import probe_batch
from linekeeper.sweep.sweep import due, take_list


class Moments:
    """Counts them, and dies at the one that was drawn."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.passed = 0

    def __call__(self, *_: Any) -> None:
        self.passed += 1
        if self.passed == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


def watch(store: Store, moments: Moments) -> None:
    """Every statement, commit and request is a moment to die at."""
    for what in ("before_cursor_execute", "commit"):
        event.listen(store.engine.sync_engine, what, moments)
    session = _Direct.session

    def counted(self: _Direct) -> aiohttp.ClientSession | None:
        moments()
        return session(self)

    pytest.MonkeyPatch().setattr(_Direct, "session", counted)


async def main(last: int) -> int:
    async with Runtime.open() as rt:
        app = await rt.app("default")
        policy = (await rt.configuration()).policy
        moments = Moments(last)
        watch(rt.store, moments)
        started = utcnow()
        await take_list(rt, app, now=started)
        for batch in (await due(rt, app, policy, now=started)).batches:
            await probe_batch(rt, app, batch, started=started, last_try=True)
    return moments.passed


if __name__ == "__main__":
    print(asyncio.run(main(int(sys.argv[1]))))
