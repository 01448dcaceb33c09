"""What tells a customer's systems of one product apart, wherever operators read their names.

`label` calls a connection by its customer and its product; of several of one product that is one
name for all, so each gets what else its name at Makini says, or its key where that says nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import bindparam, func, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.naming import label, name_key
from linekeeper.store.engine import chunked
from linekeeper.store.tables import Connection, Customer
from linekeeper.store.types import table_of
from linekeeper.text import SEPARATOR


class NamedSystem(NamedTuple):
    """One connection of a customer that wasn't disconnected."""

    id: str
    customer: str
    provider: str
    name: str
    key: str
    told_apart_by: str | None


SAID = (
    col(Customer.name),
    col(Connection.provider),
    col(Connection.name),
    col(Connection.told_apart_by),
)
"""What `label` calls a connection by, in the order in which it takes it."""
_CALLED = (
    select(col(Connection.id), *SAID)
    .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
    .where(col(Connection.id).in_(bindparam("ids", expanding=True)))
)
_AT_ONCE = 5_000
_PRODUCT = (col(Connection.customer_id), func.lower(col(Connection.provider)))
_LISTED = col(Connection.setup) != "disconnected"
_SEVERAL = (
    select(*_PRODUCT)
    .where(_LISTED, col(Connection.customer_id).is_not(None), col(Connection.provider) != "")
    .group_by(*_PRODUCT)
    .having(func.count() > 1)
)
_SYSTEMS = (
    select(
        col(Connection.id),
        col(Customer.name),
        col(Connection.provider),
        col(Connection.name),
        col(Connection.makini_key),
        col(Connection.told_apart_by),
    )
    .join(Customer, col(Customer.id) == col(Connection.customer_id))
    .where(
        _LISTED,
        or_(col(Connection.told_apart_by).is_not(None), tuple_(*_PRODUCT).in_(_SEVERAL)),
    )
)
_OF_CUSTOMERS = _SYSTEMS.where(
    col(Connection.customer_id).in_(bindparam("customers", expanding=True))
)
_TABLE = table_of(Connection)
_WRITE = (
    update(_TABLE)
    .where(_TABLE.c.id == bindparam("row_id"))
    .values(told_apart_by=bindparam("words", type_=_TABLE.c.told_apart_by.type))
)


async def labels_of(session: AsyncSession, ids: Collection[str]) -> dict[str, str]:
    """What people know each of these connections by; ids of nothing are left out."""
    labels: dict[str, str] = {}
    for batch in chunked(sorted(set(ids)), _AT_ONCE):
        rows = await session.execute(_CALLED, {"ids": batch})
        labels |= {connection_id: label(*said) for connection_id, *said in rows}
    return labels


async def distinguish_labels(
    session: AsyncSession, customers: Collection[str] | None = None
) -> None:
    """Have the connections of `customers`, or of all, called so that each name means one."""
    systems: list[NamedSystem] = []
    if customers is None:
        systems += [NamedSystem(*row) for row in await session.execute(_SYSTEMS)]
    else:
        for chunk in chunked(sorted(customers), 5_000):
            rows = await session.execute(_OF_CUSTOMERS, {"customers": chunk})
            systems += [NamedSystem(*row) for row in rows]
    wanted = words_of(systems)
    changed = [
        {"row_id": system.id, "words": wanted.get(system.id)}
        for system in systems
        if wanted.get(system.id) != system.told_apart_by
    ]
    if changed:
        await (await session.connection()).execute(_WRITE, changed)


def words_of(systems: Iterable[NamedSystem]) -> Mapping[str, str]:
    """What tells each of `systems` apart, by id; nothing where one is its customer's only. Pure."""
    alike: dict[tuple[str, str], list[NamedSystem]] = defaultdict(list)
    for system in systems:
        if system.provider:
            alike[(system.customer, system.provider.lower())].append(system)
    words: dict[str, str] = {}
    for several in alike.values():
        if len(several) == 1:
            continue
        said = {system.id: _details(system) for system in several}
        times = Counter(map(name_key, said.values()))
        for system in several:
            details = said[system.id]
            words[system.id] = details if details and times[name_key(details)] == 1 else system.key
    return words


def _details(system: NamedSystem) -> str:
    """What its name says beside its customer and its product."""
    known = {name_key(system.customer), name_key(system.provider)}
    parts = (part.strip() for part in SEPARATOR.split(system.name))
    return " · ".join(part for part in parts if part and name_key(part) not in known)
