"""What a customer's systems are called in what the customer reads.

By their product alone, for the name a connection has at Makini may be an internal one; but where a
customer has several of one product, nothing else says which of them is meant.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.store.tables import Connection


class OwnSystem(NamedTuple):
    """One of a customer's connections."""

    id: str
    provider: str
    name: str


async def own_names(
    session: AsyncSession, customer_id: str | None, *, like: str | None = None
) -> Mapping[str, str]:
    """What the customer's connections are called, by id; with `like` those of its product alone."""
    if customer_id is None:
        return {}
    systems = select(col(Connection.id), col(Connection.provider), col(Connection.name)).where(
        col(Connection.customer_id) == customer_id, col(Connection.setup) != "disconnected"
    )
    if like is not None:
        product = select(col(Connection.provider)).where(col(Connection.id) == like)
        systems = systems.where(col(Connection.provider) == product.scalar_subquery())
    rows = await session.execute(systems)
    return told_apart(OwnSystem(*row) for row in rows)


def told_apart(systems: Iterable[OwnSystem]) -> Mapping[str, str]:
    """The product of each by id, and of several of one product also the name, if that differs."""
    alike: dict[str, list[OwnSystem]] = defaultdict(list)
    for system in systems:
        alike[system.provider or system.name].append(system)
    names = {}
    for product, several in alike.items():
        times = Counter(system.name for system in several)
        for system in several:
            says_more = len(several) > 1 and times[system.name] == 1 and system.name != product
            names[system.id] = f"{product} ({system.name})" if says_more else product
    return names
