"""Our database where a command can do without it: one that is absent or in trouble is no error.

A service can't, and waits for it.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext, suppress
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from linekeeper.clock import monotonic
from linekeeper.settings import Settings
from linekeeper.store.cipher import KeyProblem
from linekeeper.store.engine import Store
from linekeeper.store.errors import StoreError, trouble_of
from linekeeper.store.schema import require_current

WAITED_FOR = 60.0
"""Seconds for which a service that starts waits for its database; systemd gives it 90 to start."""
LOOK_SECONDS = 2.0
ANSWER_SECONDS = 10.0
"""A driver waits a minute where nobody answers at all, as behind a firewall."""
_log = logging.getLogger(__name__)


async def has_come(
    settings: Settings,
    stop: asyncio.Event,
    meanwhile: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> bool:
    """Wait until the database answers, `WAITED_FOR` seconds at most; False where `stop` was set.

    `meanwhile` is entered where it has to be waited for, and left before this returns.
    Raises `StoreError` or `KeyProblem` where it does not answer by then, or can't be used.
    """
    ends = monotonic() + WAITED_FOR
    is_said = False
    async with AsyncExitStack() as waiting:
        while not stop.is_set():
            try:
                await _look(settings)
            except StoreError as error:
                if not error.passes or monotonic() >= ends:
                    raise
                if not is_said:
                    _log.warning("%s. It is waited for, %.0f seconds at most", error, WAITED_FOR)
                    is_said = True
                    await waiting.enter_async_context(meanwhile())
            else:
                return True
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
    return False


async def _look(settings: Settings) -> None:
    """Raise `StoreError` or `KeyProblem` unless the database can be used, and answers soon."""
    require_there(settings)
    try:
        async with asyncio.timeout(ANSWER_SECONDS), Store.open(settings) as store:
            await require_current(store)
    except TimeoutError as error:
        late = f"the database does not answer (within {ANSWER_SECONDS:g} s)"
        raise StoreError(late, "check LINEKEEPER_DATABASE_URL", passes=True) from error


def is_there(url: str) -> bool:
    """Whether the database at `url` exists, as far as is known without opening or asking it."""
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):  # no database URL: opening it says so
        return True
    return not parsed.drivername.startswith("sqlite") or Path(parsed.database or "").is_file()


def require_there(settings: Settings) -> None:
    """Raise `StoreError` where there is no database, for whoever is not to make one.

    An empty one in place of one whose disk is not mounted would hide that it is away.
    """
    if not is_there(url := settings.resolved_database_url):
        raise StoreError(
            f"there is no database at {make_url(url).database}",
            "see whether its disk is mounted; where there never was one, run `linekeeper migrate`",
        )


async def enter_if_usable(
    stack: AsyncExitStack, settings: Settings
) -> tuple[Store | None, str | None]:
    """The store, open until `stack` is left; None where there is none yet or it can't be used.

    Then the second says why it can't be used.
    """
    if not is_there(settings.resolved_database_url):
        return None, None
    try:
        async with AsyncExitStack() as opening:
            store = await opening.enter_async_context(Store.open(settings))
            await require_current(store)
            stack.push_async_exit(opening.pop_all())
    except (StoreError, KeyProblem) as error:
        return None, str(error)
    except (DBAPIError, OSError) as error:
        return None, str(trouble_of(error))
    return store, None
