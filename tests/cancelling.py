"""Cancels work, or does something beside it, at a wait of one's choice."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any


class CancelledAt:
    """Awaits `work`, and cancels the task that does at its waits of these numbers."""

    def __init__(self, work: Coroutine[Any, Any, None], *numbers: int) -> None:
        self._work = work
        self._numbers = numbers
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._work.__await__()
        try:
            waited_for = next(steps)
            while True:
                self.waits += 1
                if self.waits in self._numbers:
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()
                try:
                    value = yield waited_for
                except BaseException as error:
                    waited_for = steps.throw(error)
                else:
                    waited_for = steps.send(value)
        except StopIteration:
            return


class DoneMeanwhile:
    """Awaits `work`; at its wait of that number `other` is done, from its beginning to its end.

    At its wait `cancelled_at`, if that is given, `work` is cancelled.
    """

    def __init__(
        self,
        work: Coroutine[Any, Any, None],
        other: Callable[[], Awaitable[object]],
        number: int,
        cancelled_at: int | None = None,
    ) -> None:
        self._work = work
        self._other = other
        self._number = number
        self._cancelled_at = cancelled_at
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._work.__await__()
        try:
            waited_for = next(steps)
            while True:
                self.waits += 1
                if self.waits == self._cancelled_at and waited_for is not None:
                    waited_for.cancel()
                if self.waits == self._number:
                    yield from asyncio.ensure_future(self._other()).__await__()
                try:
                    value = yield waited_for
                except BaseException as error:
                    waited_for = steps.throw(error)
                else:
                    waited_for = steps.send(value)
        except StopIteration:
            return
