"""Work that finishes whoever is cancelled: an effect outside that can't be taken back.

A refresh at Makini kills the old token pair, so the new pair has to be stored even if the caller's
deadline passes or the process is asked to stop. Such work belongs to one task a name; callers wait
for it and may leave, and closing the store waits for it (DESIGN "Failure stays where it happens").
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

from linekeeper.groups import until_ended

T = TypeVar("T")


class OwnedTasks:
    """One task a name, shared by all who ask for it while it runs."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    async def run(self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what the task `name` gives; `work` is begun only where none runs yet.

        A caller that is cancelled leaves at once, and the task goes on without it.
        """
        task = self._tasks.get(name)
        if task is None:
            task = asyncio.create_task(work(), name=name)
            self._tasks[name] = task
            task.add_done_callback(self._forget)
        result: T = await asyncio.shield(task)
        return result

    async def finish(self) -> None:
        """Wait until every task has ended: what can be taken back is cancelled, the rest is not.

        However often the caller is cancelled meanwhile; that is raised once they have ended.
        """
        cancelled: asyncio.CancelledError | None = None
        while self._tasks:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            try:
                await asyncio.wait(tasks)
                await asyncio.sleep(0)  # their callbacks run before the next look
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task.get_name(), None)
        if not task.cancelled():
            task.exception()  # it may be that nobody waits for it any more


async def to_its_end(
    work: Coroutine[Any, Any, T], before_sending: ContextVar[Callable[[], None] | None]
) -> T:
    """Run `work`; once it has called what `before_sending` holds, it is not cancelled any more.

    A cancellation is raised afterwards then, in place of the result; an error of `work` comes
    first.
    """
    begun = False

    def begin() -> None:
        nonlocal begun
        begun = True

    context = copy_context()
    context.run(before_sending.set, begin)
    task = asyncio.create_task(work, context=context)
    cancelled = await until_ended(task, lambda: begun or task.cancel())
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result


async def retrying(
    step: Callable[[], Awaitable[T]], *, on: tuple[type[Exception], ...], waits: tuple[float, ...]
) -> T:
    """The result of `step`, tried again after each of `waits` (seconds) when it raises `on`."""
    for seconds in waits:
        try:
            return await step()
        except on:
            await asyncio.sleep(seconds)
    return await step()
