"""A deterministic event loop: virtual time, a seeded order, hosts that a power cut freezes.

Time passes only while nothing is ready to run, and then jumps to the next timer. Callbacks that
are ready at the same moment run in a seeded order, each task's own in theirs. Work for threads is
run at once. A host whose power is cut never runs again: its tasks stay as they are, without
`finally`, without `except`.

It is small on purpose. `simloom` does more (it patches `time` and runs uvicorn's protocol), but it
needs Python 3.12 and Linekeeper's floor is 3.11.
"""

import asyncio
import contextvars
import ctypes
import selectors
import sqlite3
from collections import deque
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from random import Random
from typing import Any

CONTENDED_SECONDS = 0.003
LEAST_SECONDS = 2e-6
MOST_STEPS = 200_000
"""So many in which no time passes have no end."""


class Deadlock(Exception):
    """No timer is set and everybody waits for somebody; or somebody never waits."""


class Contended(Exception):
    """Raised by `sleep` in work that waits for a lock on its thread: it is run again later."""


class Host:
    """One process: its tasks, its clock, and what dies with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.crashed = False  # its power was cut: it did not end by itself
        self.stalled = False  # none of its tasks runs until it goes on
        self.interrupted_at: datetime | None = None  # when it crashed, or was told to stop
        self.gone = asyncio.Event()
        self.skew = timedelta()  # how far its wall clock is off
        self.handles: list[Callable[[], None]] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def cut(self) -> None:
        """Cut its power: none of its tasks runs again, and its database handles are gone."""
        self.dead = True
        self.gone.set()
        for close in self.handles:
            close()
        self.handles.clear()
        for task in self.tasks:
            if not task.done():
                _freeze(task)
        self.tasks.clear()

    def end(self) -> None:
        """Its work is done, and nothing of it is left to freeze."""
        self.tasks = [task for task in self.tasks if not task.done()]
        self.cut()


HOST: contextvars.ContextVar[Host | None] = contextvars.ContextVar("host", default=None)


class SimTask(asyncio.Task):  # type: ignore[type-arg]
    """A task whose place in a set doesn't depend on where it lies in memory."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class _Selector(selectors.BaseSelector):
    """Selects nothing, ever: it lets the loop's time pass."""

    def __init__(self) -> None:
        self.loop: VirtualLoop | None = None
        self._files: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, 0, events, data)
        self._files[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._files.pop(fileobj)

    def get_map(self) -> Any:
        return self._files

    def select(self, timeout: float | None = None) -> list[Any]:
        assert self.loop is not None
        self.loop.pass_time(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self, seed: int) -> None:
        self._now = 0.0
        selector = _Selector()
        super().__init__(selector)
        selector.loop = self
        self._clock_resolution = 1e-6  # a year in seconds leaves no room for less
        self._seeded = Random(seed)
        self._tasks_made = 0
        self.frozen: list[Any] = []
        self._held: dict[Host, list[asyncio.Handle]] = {}
        self.errors: list[dict[str, Any]] = []
        self.steps = 0
        self._steps_by_then = 0
        self.set_task_factory(_make_task)
        self.set_exception_handler(lambda _, context: self.errors.append(context))

    def time(self) -> float:
        """Virtual seconds since the beginning."""
        return self._now

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        """As ever, but what is to come takes time: else a wait of nanoseconds is none at all, and
        whoever looks at the clock again after it finds it where it was, for ever."""
        if when > self._now:
            when = max(when, self._now + LEAST_SECONDS)
        return super().call_at(when, callback, *args, context=context)

    def pass_time(self, timeout: float | None) -> None:
        """Called where the loop would wait: the seeded order is made, or time jumps."""
        if timeout is None:
            raise Deadlock("nothing is ready and no timer is set")
        if timeout > 0:
            self._now += timeout
            self._steps_by_then = self.steps
        elif self.steps - self._steps_by_then > MOST_STEPS:
            self._steps_by_then = self.steps
            raise Deadlock(f"{MOST_STEPS} steps, and no time passes")
        elif len(self._ready) > 1:  # type: ignore[attr-defined]
            self._shuffle()

    def _shuffle(self) -> None:
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        queues: dict[int, deque[asyncio.Handle]] = {}
        order: list[int] = []
        for handle in ready:
            owner = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
            number = owner.number if isinstance(owner, SimTask) else 0
            queues.setdefault(number, deque()).append(handle)
            order.append(number)
        self._seeded.shuffle(order)
        ready.clear()
        ready.extend(queues[number].popleft() for number in order)

    def _run_once(self) -> None:
        self.steps += 1
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        for handle in ready:
            host = _host_of(handle)
            if host is not None and (host.dead or host.stalled):
                waiting = list(ready)
                ready.clear()
                ready.extend(each for each in waiting if not self._is_kept(each))
                break
        super()._run_once()  # type: ignore[misc]

    def _is_kept(self, handle: asyncio.Handle) -> bool:
        """Whether it doesn't run now: kept for good where its process is gone."""
        host = _host_of(handle)
        if host is None or not (host.dead or host.stalled):
            return False
        kept = self.frozen if host.dead else self._held.setdefault(host, [])
        kept.append(handle)
        return True

    def stall(self, host: Host) -> None:
        """Let a process stand still, its clock and its time-outs not."""
        host.stalled = True

    def go_on(self, host: Host) -> None:
        """Let a process that was stalled go on."""
        host.stalled = False
        self._ready.extend(self._held.pop(host, ()))  # type: ignore[attr-defined]

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """Work for a thread, run now; where it waits for a lock it is run again a little later."""
        future = self.create_future()
        context = contextvars.copy_context()

        def attempt() -> None:
            if future.done() or _is_dead(context):
                return
            try:
                result = context.run(func, *args)
            except Contended:
                self.call_later(CONTENDED_SECONDS, attempt)
            except BaseException as error:
                if not _is_dead(context):
                    future.set_exception(error)
            else:
                if not _is_dead(context):
                    future.set_result(result)

        self.call_soon(attempt)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""

    def is_contended(self, error: sqlite3.Error, since: float, seconds: float) -> bool:
        """Whether to wait on for a lock of the database."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return code == sqlite3.SQLITE_BUSY and self._now - since < seconds


def _make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
) -> SimTask:
    assert isinstance(loop, VirtualLoop)
    loop._tasks_made += 1
    SimTask.number = loop._tasks_made  # the hash is asked for while it is being made
    task = SimTask(coroutine, loop=loop, **options)
    task.number = loop._tasks_made
    host = options.get("context", contextvars.copy_context()).get(HOST)
    if host is not None:
        host.tasks.append(task)
        if len(host.tasks) > 500:
            host.tasks = [each for each in host.tasks if not each.done()]
    return task


def _host_of(handle: asyncio.Handle) -> Host | None:
    """Whose a callback is; asyncio has no public way to ask."""
    context: contextvars.Context = handle._context  # type: ignore[attr-defined]
    return context.get(HOST)


def _is_dead(context: contextvars.Context) -> bool:
    host = context.get(HOST)
    return host is not None and host.dead


def freeze_leftovers(loop: VirtualLoop) -> None:
    """Let what is left at the end stay as it is for good: no `finally` of it may run."""
    for task in asyncio.all_tasks(loop):
        _freeze(task)
    for handle in [*loop.frozen, *(each for held in loop._held.values() for each in held)]:
        _never_free(handle)


def _freeze(task: asyncio.Task[Any]) -> None:
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    _never_free(task)
    _never_free(task.get_coro())


def _never_free(thing: Any) -> None:
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
