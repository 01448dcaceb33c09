"""What the task runs and runs about connections are found by in Prefect."""

from collections.abc import Sequence
from dataclasses import dataclass

from slugify import slugify
from sqlalchemy import select
from sqlmodel import col

from linekeeper.store import Store
from linekeeper.store.tables import Connection, Customer


@dataclass(frozen=True, slots=True)
class Tagged:
    """A connection as Prefect's tags name it."""

    slug: str
    tags: tuple[str, ...]
    """`customer:…`, `provider:…`, `health:…`: those that are known."""


async def tagged(store: Store, connections: Sequence[str]) -> dict[str, Tagged]:
    """The tags of each of `connections`, by its id."""
    if not connections:
        return {}
    async with store.read() as session:
        rows = await session.execute(
            select(
                col(Connection.id),
                col(Connection.slug),
                col(Connection.provider),
                col(Connection.health),
                col(Customer.slug),
            )
            .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
            .where(col(Connection.id).in_(connections))
        )
        return {
            identifier: Tagged(slug, _tags(customer=customer, provider=provider, health=health))
            for identifier, slug, provider, health, customer in rows
        }


def _tags(*, customer: str | None, provider: str, health: str) -> tuple[str, ...]:
    named = {"customer": customer, "provider": slugify(provider), "health": health}
    return tuple(f"{what}:{value}" for what, value in named.items() if value)
