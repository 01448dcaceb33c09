"""Who spends how much of the calls that Makini allows: by app, purpose and hour."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import bindparam, delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.store import Store
from linekeeper.store.engine import upserting
from linekeeper.store.tables import CallCount
from linekeeper.store.types import UtcDateTime, table_of

KEPT = timedelta(days=7)
_Result = TypeVar("_Result")
_Given = ParamSpec("_Given")


class Purpose(StrEnum):
    """What a call is made for."""

    sweep = "sweep"
    """Makini's list, and the status of connections."""
    reconcile = "reconcile"
    events = "events"
    """Records that a webhook named."""
    tokens = "tokens"
    """Refreshing and minting."""
    logins = "logins"
    """A customer's login."""
    product = "product"
    """The product's own calls, as far as it reports them."""
    other = "other"


_purpose: ContextVar[Purpose] = ContextVar("purpose", default=Purpose.other)


_beyond: ContextVar[int] = ContextVar("more", default=0)


@contextmanager
def many_calls(count: int) -> Iterator[None]:
    """What runs within, and every task that it starts, makes about `count` calls to Makini."""
    before = _beyond.set(count)
    try:
        yield
    finally:
        _beyond.reset(before)


_person: ContextVar[bool] = ContextVar("person", default=False)


def for_person(
    function: Callable[_Given, Awaitable[_Result]],
) -> Callable[_Given, Awaitable[_Result]]:
    """Somebody waits for what the function does, and every task that it starts: its calls to
    Makini are made before those that nobody waits for."""

    @wraps(function)
    async def within(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        before = _person.set(True)
        try:
            return await function(*args, **kwargs)
        finally:
            _person.reset(before)

    return within


def does_person_wait() -> bool:
    """Whether somebody waits for the present task."""
    return _person.get()


def calls_to_come() -> int:
    """How many calls the present task is about to make, where they are many."""
    return _beyond.get()


def purpose_now() -> Purpose:
    """What the present task calls Makini for."""
    return _purpose.get()


def spends_on(
    purpose: Purpose,
) -> Callable[[Callable[_Given, Awaitable[_Result]]], Callable[_Given, Awaitable[_Result]]]:
    """A decorator: what the function calls Makini for, and every task that it starts."""

    def decorate(
        function: Callable[_Given, Awaitable[_Result]],
    ) -> Callable[_Given, Awaitable[_Result]]:
        @wraps(function)
        async def within(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
            before = _purpose.set(purpose)
            try:
                return await function(*args, **kwargs)
            finally:
                _purpose.reset(before)

        return within

    return decorate


@dataclass(frozen=True, slots=True)
class Spent:
    """The calls to one app for one purpose."""

    purpose: str
    this_hour: int
    """Since the full hour."""
    day: int
    """The calls in the last 24 full hours and the present one."""
    refused: int
    """The calls of the day that were answered 429."""

    @property
    def per_minute(self) -> float:
        """The mean of the day."""
        return self.day / (24 * 60)


async def add_calls(
    store: Store,
    session: AsyncSession,
    app: str,
    calls: Mapping[Purpose, int],
    refused: Mapping[Purpose, int],
    *,
    now: datetime,
) -> None:
    """Add to the present hour of `app`; hours older than `KEPT` go."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    rows = [
        {
            "app": app,
            "hour": hour,
            "purpose": purpose.value,
            "calls": calls.get(purpose, 0),
            "refused": refused.get(purpose, 0),
        }
        for purpose in sorted({*calls, *refused})
    ]
    if rows:
        await session.execute(_adding(is_sqlite=store.is_sqlite), rows)
    await session.execute(_FORGET, {"before": hour - KEPT})


@cache
def _adding(*, is_sqlite: bool) -> Any:
    adding = upserting(CallCount, is_sqlite=is_sqlite)
    return adding.on_conflict_do_update(
        index_elements=["app", "hour", "purpose"],
        set_={
            "calls": _COUNTS.c.calls + adding.excluded.calls,
            "refused": _COUNTS.c.refused + adding.excluded.refused,
        },
    )


_COUNTS = table_of(CallCount)
_FORGET = delete(_COUNTS).where(_COUNTS.c.hour < bindparam("before", type_=UtcDateTime))


async def read_spent(session: AsyncSession, *, now: datetime) -> dict[str, Sequence[Spent]]:
    """Return by app who spent what, most first."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    rows = await session.scalars(
        select(CallCount).where(col(CallCount.hour) >= hour - timedelta(hours=24))
    )
    present: Counter[tuple[str, str]] = Counter()
    day: Counter[tuple[str, str]] = Counter()
    refused: Counter[tuple[str, str]] = Counter()
    for row in rows:
        about = row.app, row.purpose
        day[about] += row.calls
        refused[about] += row.refused
        if row.hour == hour:
            present[about] += row.calls
    spent: dict[str, list[Spent]] = {}
    for (app, purpose), calls in sorted(day.items(), key=lambda entry: (-entry[1], entry[0])):
        about = app, purpose
        spent.setdefault(app, []).append(Spent(purpose, present[about], calls, refused[about]))
    return {app: tuple(parts) for app, parts in spent.items()}
