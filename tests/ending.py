"""Servers of the tests end at once: a test would wait for each of its peers' a quarter of a second.

uvicorn looks ten times a second whether it is to end, and then whether its connections are closed.
Most tests have a server or two of their own, as many ends as tests. Here who ends one wakes it.
"""

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn import server as module

TICK_SECONDS = 1.0
"""How often its header of the date is renewed."""
LOOK_SECONDS = 0.005
_MANY = 10
"""Of uvicorn's own looks, which it counts, so many are a second."""


def end_at_once(patch: pytest.MonkeyPatch) -> None:
    """Servers that are told to end do so as soon as their connections and lifespans allow."""

    def is_ending(server: uvicorn.Server) -> bool:
        return bool(vars(server).get("_is_ending"))

    def end(server: uvicorn.Server, value: bool) -> None:
        vars(server)["_is_ending"] = value
        loop, woken = vars(server).get("_waking", (None, None))
        if value and loop is not None:
            with suppress(RuntimeError):  # that loop is closed, and the server with it
                loop.call_soon_threadsafe(woken.set)  # some servers run in threads of their own

    async def main_loop(server: uvicorn.Server) -> None:
        woken = asyncio.Event()
        vars(server)["_waking"] = asyncio.get_running_loop(), woken
        number = 0
        while not await server.on_tick(number):
            number += _MANY
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await woken.wait()

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(min(seconds, LOOK_SECONDS))

    looking: dict[str, Any] = {**vars(asyncio), "sleep": sleep}
    patch.setattr(uvicorn.Server, "should_exit", property(is_ending, end), raising=False)
    patch.setattr(uvicorn.Server, "main_loop", main_loop)
    patch.setattr(module, "asyncio", SimpleNamespace(**looking))
