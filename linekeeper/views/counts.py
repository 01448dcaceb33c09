"""How many connections are how, in all and by app, in one statement."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import Configuration
from linekeeper.health.evidence import Evidence, Health
from linekeeper.makini.bucket_row import stated_in_words
from linekeeper.spending import read_spent
from linekeeper.store.tables import (
    AppState,
    Connection,
)
from linekeeper.text import is_only_listed
from linekeeper.tokens.stored import has_usable_token
from linekeeper.views.fleet_models import (
    AppLine,
)
from linekeeper.views.managed import Managed, count_managed


def tokenless(configuration: Configuration, now: datetime) -> tuple[ColumnElement[bool], ...]:
    """That a connection in use has no token that may be used."""
    return col(Connection.setup) != "disconnected", ~has_usable_token(now, configuration.apps)


class ConnectionCount(NamedTuple):
    """How many connections are alike."""

    app: str
    setup: str
    health: str
    evidence: str | None
    answered: bool
    number: int
    oldest: datetime
    checked_at: datetime | None


async def count_connections(session: AsyncSession) -> list[ConnectionCount]:
    """How many connections of each kind there are."""
    kinds = (
        col(Connection.app),
        col(Connection.setup),
        col(Connection.health),
        col(Connection.evidence),
        col(Connection.last_answered_at).is_not(None),
    )
    rows = await session.execute(
        select(
            *kinds,
            func.count(),
            func.min(col(Connection.created_at)),
            func.max(col(Connection.last_checked_at)),
        ).group_by(*kinds)
    )
    return [ConnectionCount(*row) for row in rows.all()]


def sums(counts: Sequence[ConnectionCount], axis: str) -> dict[str, int]:
    """How many connections there are by their `axis`."""
    numbers: Counter[str] = Counter()
    for count in counts:
        numbers[getattr(count, axis) or Evidence.listed.value] += count.number
    return dict(sorted(numbers.items()))


def mode_of(configuration: Configuration, app: str) -> str | None:
    """The mode of an app; None for one that is not configured."""
    config = configuration.apps.get(app)
    return config.mode if config is not None else None


async def app_lines(
    session: AsyncSession,
    configuration: Configuration,
    connected: Sequence[ConnectionCount],
    now: datetime,
) -> list[AppLine]:
    """Each app that is set or was; `connected` are its connections in use."""
    spent = await read_spent(session, now=now)
    states = {row.app: row for row in await session.scalars(select(AppState))}
    managed = await count_managed(session, configuration.apps)
    all_of = sums(connected, "app")
    healthy = [count for count in connected if count.health == Health.healthy]
    listed = [count for count in healthy if is_only_listed(count.health, count.evidence)]
    checked: defaultdict[str, list[datetime]] = defaultdict(list)
    for count in connected:
        if count.checked_at is not None:
            checked[count.app].append(count.checked_at)
    healthy_of, listed_of = sums(healthy, "app"), sums(listed, "app")
    return [
        AppLine(
            name=name,
            mode=mode_of(configuration, name),
            connections=all_of.get(name, 0),
            healthy=healthy_of.get(name, 0),
            listed=listed_of.get(name, 0),
            managed=managed.get(name, Managed()),
            last_list_at=states[name].last_list_at if name in states else None,
            last_check_at=max(checked.get(name, ()), default=None),
            left_out=states[name].left_out if name in states else 0,
            calls_per_minute=configuration.apps[name].calls_a_minute
            if name in configuration.apps
            else 0,
            spent=spent.get(name, ()),
            stated=stated_in_words(states[name].budget) if name in states else "",
        )
        for name in sorted({*configuration.apps, *states, *all_of})
    ]
