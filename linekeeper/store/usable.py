"""Our database where a command can do without it: one that is absent or in trouble is no error."""

from contextlib import AsyncExitStack
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from linekeeper.settings import Settings
from linekeeper.store.cipher import KeyProblem
from linekeeper.store.engine import Store
from linekeeper.store.errors import StoreError, trouble_of
from linekeeper.store.schema import require_current


def is_there(url: str) -> bool:
    """Whether the database at `url` exists, as far as is known without opening or asking it."""
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):  # no database URL: opening it says so
        return True
    return not parsed.drivername.startswith("sqlite") or Path(parsed.database or "").is_file()


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
