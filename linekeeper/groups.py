"""Tasks side by side whose error is what it is.

`asyncio.TaskGroup` raises an `ExceptionGroup` also where one task alone failed. Whoever catches
errors of the database then misses it, and people read "unhandled errors in a TaskGroup" in place of
the cause.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


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
