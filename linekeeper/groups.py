"""Tasks side by side whose error is what it is, and the end of one.

`asyncio.TaskGroup` raises an `ExceptionGroup` also where one task alone failed. Whoever catches
errors of the database then misses it, and people read "unhandled errors in a TaskGroup" in place of
the cause.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A `TaskGroup`; of the errors in it the first is raised, as it is."""
    first: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        first = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
    if first is not None:
        raise first


async def until_ended(
    task: asyncio.Task[Any], on_cancel: Callable[[], object] | None = None
) -> asyncio.CancelledError | None:
    """Wait until `task` has ended, however often the caller is cancelled meanwhile.

    Each time `on_cancel` is called. Returns the last cancellation, which the caller has to raise:
    who swallows it goes on for good.
    """
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
            if on_cancel is not None:
                on_cancel()
    return cancelled


async def to_end(*steps: Callable[[], Awaitable[object]]) -> None:
    """Take `steps` in their order, to the end of the last, however often the caller is cancelled
    meanwhile, and whatever one of them raises; that is raised then."""

    async def take() -> None:
        first: BaseException | None = None
        for step in steps:
            try:
                await step()
            except (Exception, asyncio.CancelledError) as error:
                first = first or error
        if first is not None:
            raise first

    task = asyncio.create_task(take())
    cancelled = await until_ended(task)
    task.result()
    if cancelled is not None:
        raise cancelled


async def end_task(task: asyncio.Task[None]) -> None:
    """Cancel `task` and wait until it has ended. Raises what it raised of itself.

    A cancellation of the caller, which may come meanwhile, is raised after that: to suppress what
    the task's own raises would swallow it, and a loop that was cancelled would go on for good.
    """
    task.cancel()
    cancelled = await until_ended(task)
    if cancelled is not None:
        raise cancelled
    if not task.cancelled():
        task.result()
