"""Which connection has come for the same system as another one, and where the list shows that."""

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
