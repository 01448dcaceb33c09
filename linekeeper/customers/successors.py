"""Which connection came, or has just come, in the place of another one of the same system."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from linekeeper.customers.setup import ESTABLISHED
from linekeeper.store.engine import chunked
from linekeeper.store.tables import Connection


def is_of_same_system(before: type[Connection], after: type[Connection]) -> ColumnElement[bool]:
    """Whether `after` came later for the same customer, system and e-mail, as far as is known."""
    return and_(
        col(before.provider) != "",
        col(before.email) != "",
        col(after.app) == col(before.app),
        col(after.customer_id) == col(before.customer_id),
        func.lower(col(after.provider)) == func.lower(col(before.provider)),
        func.lower(col(after.email)) == func.lower(col(before.email)),
        col(after.created_at) > col(before.created_at),
        col(after.setup).in_(ESTABLISHED),
    )


async def likely_succeeded(session: AsyncSession, connections: Sequence[str]) -> set[str]:
    """Those of `connections` that Makini's list lacks since it shows a new one of their system.

    Another complete list decides whether they are succeeded (`customers.succession`).
    """
    succeeded: set[str] = set()
    for chunk in chunked(connections, 5_000):
        succeeded |= set(await session.scalars(_likely_succeeded(), {"connections": chunk}))
    return succeeded


async def last_successors(
    session: AsyncSession, connections: Sequence[Connection]
) -> dict[str, Connection]:
    """Return by the ids of those that were replaced what stands in their place now."""
    last: dict[str, Connection] = {}
    replaced = {(each.id, each.replaced_by) for each in connections if each.replaced_by}
    passed: set[tuple[str, str]] = set()
    while replaced := replaced - passed:
        passed |= replaced
        by_id: dict[str, Connection] = {}
        for chunk in chunked(sorted({after for _, after in replaced}), 5_000):
            statement = select(Connection).where(col(Connection.id).in_(chunk))
            by_id |= {each.id: each for each in await session.scalars(statement)}
        steps = [(before, by_id[after]) for before, after in replaced if after in by_id]
        last |= dict(steps)
        replaced = {
            (before, after.replaced_by)
            for before, after in steps
            if after.replaced_by and after.setup == "disconnected"
        }
    return last


@cache
def _likely_succeeded() -> Any:
    """Built once: it is asked for every mail."""
    before, after = aliased(Connection), aliased(Connection)
    return (
        select(col(before.id))
        .join(after, is_of_same_system(before, after))
        .where(
            col(before.id).in_(bindparam("connections", expanding=True)),
            col(before.setup) != "disconnected",
            col(after.unlisted_since).is_(None),
            col(after.created_at) >= col(before.unlisted_since),
        )
    )
