"""Asking Makini about a login: again where it stumbles, for the code is spent already."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from linekeeper.makini import MakiniError

T = TypeVar("T")
_TRIES = 3
LONGEST_WAIT = 5.0
"""Seconds a customer's page waits before Makini is asked again."""


async def asked(ask: Callable[[], Awaitable[T]], *, failed: MakiniError | None = None) -> T:
    """The answer to `ask`, asked `_TRIES` times at most; `failed` is how it was the first time.

    Not before the end of a pause that Makini asks for: of a longer one the kept login minds.
    """
    for attempt in range(1, _TRIES):
        if failed is None:
            try:
                return await ask()
            except MakiniError as error:
                failed = error
        wait = max(failed.retry_after or 0.0, 0.5 * attempt)
        if not failed.retryable or wait > LONGEST_WAIT:
            raise failed
        failed = None
        await asyncio.sleep(wait)
    return await ask()
