"""Loops side by side: each has one thing to do, and survives whatever happens to it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from linekeeper.consumer.waker import Waker, wait_at_most
from linekeeper.logs import ids_of
from linekeeper.redact import describe_error

MAX_BACK_OFF = 30.0
_log = logging.getLogger("linekeeper.consumer")


@dataclass(frozen=True, slots=True)
class ServiceLoop:
    """A loop of the consumer."""

    name: str
    step: Callable[[], Awaitable[bool]]
    """Does what there is to do; returns whether there may be more."""
    every: float
    """Seconds until the next step where there was nothing more."""
    waits_for: str | None = None
    """What brings the next step forward once it is due (`waiting`); None: only time does."""


async def keep(loop: ServiceLoop, waker: Waker, stop: asyncio.Event) -> None:
    """Repeat `loop.step` until `stop`, with back-off after an error; cancel it to end at once.

    An error is one line in the log, and not again while it stays the same.
    """
    failures, logged = 0, ""
    while not stop.is_set():
        seen = waker.seen[loop.waits_for] if loop.waits_for else 0
        try:
            has_more = await loop.step()
        except Exception as error:
            failures += 1
            line = describe_error(error)
            if line != logged:
                _log.warning("%s: %s; trying again", loop.name, line, extra=ids_of(error))
                logged = line
            await wait_at_most(stop, min(2.0 ** min(failures, 10), MAX_BACK_OFF))
            continue
        if failures:
            _log.info("%s: works again", loop.name)
            failures, logged = 0, ""
        if has_more:
            continue
        if loop.waits_for:
            await waker.wait(loop.waits_for, seen, seconds=loop.every)
        else:
            await wait_at_most(stop, loop.every)
