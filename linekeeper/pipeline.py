"""Downloading, understanding and writing at the same time, one step apart: memory stays bounded."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from datetime import datetime
from typing import Any, Self, TypeVar

from linekeeper.clock import utcnow

T = TypeVar("T")


async def prefetch(items: AsyncIterator[T]) -> AsyncGenerator[tuple[T, datetime], None]:
    """The items, each with when it was asked for; the next one is asked for meanwhile."""
    asked_at = utcnow()
    coming = asyncio.ensure_future(_next(items))
    try:
        while (item := await coming) is not None:
            was_asked_at, asked_at = asked_at, utcnow()
            coming = asyncio.ensure_future(_next(items))
            await asyncio.sleep(0)  # it is on its way before the caller is busy with this one
            yield item, was_asked_at
    finally:
        await _drop(coming)


async def _next(items: AsyncIterator[T]) -> T | None:
    return await anext(items, None)


class WriteBehind:
    """Numbers worked out one behind the other while the caller goes on.

    Leaving the block by an exception cancels what is under way, but for one that is `expected`.
    """

    def __init__(self, expected: type[Exception] | None = None) -> None:
        self._expected = expected
        self._task: asyncio.Task[int] | None = None

    async def then(self, step: Coroutine[Any, Any, int]) -> int:
        """Begin `step` once the one before it is done; returns what that one gave."""
        try:
            before = await self.done()
        except BaseException:
            step.close()
            raise
        self._task = asyncio.create_task(step)
        return before

    async def done(self) -> int:
        """Wait for the step under way; what it gave, 0 if there was none."""
        if self._task is None:
            return 0
        task, self._task = self._task, None
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await _drop(task)
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._expected is not None and issubclass(kind, self._expected):
            await self.done()
        elif self._task is not None:
            await _drop(self._task)


async def _drop(task: "asyncio.Future[Any]") -> None:
    """End `task`; what it gave or raised doesn't matter any more."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
