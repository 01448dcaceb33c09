"""Cancels work, or does something beside it, at a wait of one's choice."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any


class _Interrupted:
    """Awaits `work`, and does something at each of its waits."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = work
        self.waits = 0

    def _at_wait(self, waited_for: Any) -> Generator[Any, Any, None]:
        raise NotImplementedError

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._work.__await__()
        try:
            waited_for = next(steps)
            while True:
                self.waits += 1
                yield from self._at_wait(waited_for)
                try:
                    value = yield waited_for
                except BaseException as error:
                    waited_for = steps.throw(error)
                else:
                    waited_for = steps.send(value)
        except StopIteration:
            return


class CancelledAt(_Interrupted):
    """Awaits `work`, and cancels the task that does at its waits of these numbers."""

    def __init__(self, work: Coroutine[Any, Any, None], *numbers: int) -> None:
        super().__init__(work)
        self._numbers = numbers

    def _at_wait(self, waited_for: Any) -> Generator[Any, Any, None]:
        if self.waits in self._numbers:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        yield from ()


class DoneMeanwhile(_Interrupted):
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
        super().__init__(work)
        self._other = other
        self._number = number
        self._cancelled_at = cancelled_at

    def _at_wait(self, waited_for: Any) -> Generator[Any, Any, None]:
        if self.waits == self._cancelled_at and waited_for is not None:
            waited_for.cancel()
        if self.waits == self._number:
            yield from asyncio.ensure_future(self._other()).__await__()
