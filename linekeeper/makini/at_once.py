"""Calls to Makini that wait for nothing, made while others wait for who makes them.

Who holds a lease does not wait for the call budget, nor for a pause that Makini asked for: the
first call is granted before the lease is taken (`MakiniClient.reserve`), a further one is made
where it can be at once. Where it can't, `NoCallLeft` ends the work, which gives its lease back and
begins again with another call in hand.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TypeVar

from linekeeper.clock import monotonic
from linekeeper.makini.errors import ErrorKind, MakiniError

T = TypeVar("T")
GOOD_FOR = 5.0
"""Seconds within which a reserved call is to be made: the pace is reckoned from when it was
granted."""
ROUNDS = 10
"""How often work is begun; each time there was a call in hand, and another one was needed."""


class NoCallLeft(MakiniError):
    """No call can be made at this moment without waiting; nothing was asked."""

    def __init__(self, app: str, connection: str | None) -> None:
        super().__init__(
            ErrorKind.rate_limited,
            "no call was left at the moment it was needed",
            app=app,
            connection=connection,
        )


class ReservedCall:
    """A call that was granted and not made yet."""

    __slots__ = ("_until",)

    def __init__(self, good_for: float = GOOD_FOR) -> None:
        self._until = monotonic() + good_for

    def use(self) -> bool:
        """Whether a call may be made by it: once, and soon."""
        is_good, self._until = monotonic() < self._until, 0.0
        return is_good


IN_HAND: ContextVar[ReservedCall | None] = ContextVar("in_hand", default=None)
"""What the present task has; where it has any, its calls wait for nothing."""


@contextmanager
def _in_hand(call: ReservedCall | None) -> Iterator[None]:
    before = IN_HAND.set(call or ReservedCall(0.0))
    try:
        yield
    finally:
        IN_HAND.reset(before)


async def with_call_in_hand(
    reserve: Callable[[], Awaitable[ReservedCall | None]], work: Callable[[], Awaitable[T]]
) -> T:
    """The result of `work`, whose calls wait for nothing; `reserve` waits for one before it.

    It gives None where none is likely to be needed. `work` is begun again where it needs another,
    so what it did by then has to be kept. Raises `NoCallLeft` where it needed `ROUNDS` of them.
    """
    for _ in range(ROUNDS - 1):
        with _in_hand(await reserve()), suppress(NoCallLeft):
            return await work()
    with _in_hand(await reserve()):
        return await work()
