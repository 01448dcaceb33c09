"""What a customer's systems are called in what the customer reads.

By their product alone, for the name a connection has at Makini may be an internal one; but where a
customer has several of one product, nothing else says which of them is meant. Where not even their
names do, they are numbered: a mail that asks for the login of one doesn't look like one that asks
for another's.
"""

from collections import defaultdict
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
    return distinct_names(OwnSystem(*row) for row in rows)


def distinct_names(systems: Iterable[OwnSystem]) -> Mapping[str, str]:
    """The product of each by id. Of several of one product also the name, if that differs; those
    that have the same name are numbered, the oldest first: `emaint (1/2)`."""
    alike: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for system in systems:
        alike[system.provider or system.name][system.name].append(system.id)
    names = {}
    for product, by_name in alike.items():
        for name, ids in by_name.items():
            says_more = len(by_name) > 1 and name != product
            for number, identifier in enumerate(sorted(ids), start=1):
                more = [name] if says_more else []
                more += [f"{number}/{len(ids)}"] if len(ids) > 1 else []
                names[identifier] = f"{product} ({', '.join(more)})" if more else product
    return names
