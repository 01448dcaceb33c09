"""Whose fault a database error is, and doing many things so that a poisoned one fails alone."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, OperationalError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def is_of_database(error: BaseException) -> bool:
    """Whether the database itself is in trouble, rather than what it was told to write."""
    return isinstance(error, OperationalError | OSError | TimeoutError) or (
        isinstance(error, DBAPIError) and (error.connection_invalidated or _passing(error))
    )


def is_in_trouble(error: BaseException) -> bool:
    """The same of an error that may have come from anywhere: a file that is missing is not it."""
    return is_of_database(error) and isinstance(error, DBAPIError | ConnectionError)


def _passing(error: DBAPIError) -> bool:
    """Deadlocks and serialization failures of PostgreSQL: the same again may work."""
    return getattr(error.orig, "sqlstate", "") in ("40001", "40P01", "57P01", "57P03", "53300")


async def isolate(
    items: Sequence[_Item], work: Callable[[Sequence[_Item]], Awaitable[_Result]]
) -> tuple[list[_Result], list[tuple[_Item, Exception]]]:
    """Do `work` with all `items` at once, or, where that fails, with fewer and fewer of them.

    Returns the results, and the items that fail alone with their reasons. Trouble of the database
    is raised: it says nothing of the items.
    """
    if not items:
        return [], []
    try:
        return [await work(items)], []
    except Exception as error:
        if is_of_database(error):
            raise
        if len(items) == 1:
            return [], [(items[0], error)]
    middle = len(items) // 2
    first, failed = await isolate(items[:middle], work)
    second, also_failed = await isolate(items[middle:], work)
    return [*first, *second], [*failed, *also_failed]
