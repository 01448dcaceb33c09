"""What a person asks about: a record of a connection, or the id of something."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.find import NotFound, find_connection, fold, named_connections
from linekeeper.customers.naming import label
from linekeeper.store.keys import stored_key
from linekeeper.store.tables import Connection, Customer, Record

_OFFERED = 8


@dataclass(frozen=True, slots=True)
class RecordSubject:
    """A record key or readable number, and the connection it is asked of."""

    connection_id: str
    key: str


def splits(subject: str) -> Iterator[tuple[str, str]]:
    """`Customer · System KEY` cut at each space, the shortest key first. Pure."""
    words = subject.split()
    for at in range(len(words) - 1, 0, -1):
        yield " ".join(words[:at]), " ".join(words[at:])


async def find_record(session: AsyncSession, subject: str) -> RecordSubject:
    """The record meant. Raises `NotFound` with what comes near it.

    The index is asked first, so that a key that is known costs a look at the few connections that
    have it; only for one that nobody has are all connections' names compared.
    """
    for prefix, key in splits(subject):
        for connection_id, names in await _holders(session, key):
            if fold(prefix) in names:
                return RecordSubject(connection_id, key)
    nearest: NotFound | None = None
    for prefix, key in splits(subject):
        try:
            named = await find_connection(session, prefix)
        except NotFound as error:
            nearest = nearest or error
            continue
        return RecordSubject(named.id, key)
    if await _is_connection(session, subject):
        raise NotFound(f"{subject!r} is a connection: add the key or number of a record")
    return await _without_connection(session, subject, nearest)


async def _without_connection(
    session: AsyncSession, key: str, nearest: NotFound | None
) -> RecordSubject:
    """A key alone is enough where one connection has it."""
    holders = await _holders(session, key)
    if len(holders) == 1:
        return RecordSubject(holders[0][0], key)
    if holders:
        names = {connection.id: connection.label for connection in await named_connections(session)}
        labels = "; ".join(f"{names[holder]} {key}" for holder, _ in holders[:_OFFERED])
        raise NotFound(f"{len(holders)} connections have {key!r}: give one of: {labels}")
    raise NotFound(
        f"nothing is known as {key!r}: give `Customer · System RECORD-KEY`, or the id of a "
        "delivery, change, incident or message" + (f" ({nearest})" if nearest else "")
    )


async def _holders(session: AsyncSession, key: str) -> list[tuple[str, set[str]]]:
    """The connections that have a record of that key or number, with what people call them."""
    ids = (
        select(col(Record.connection_id))
        .where(col(Record.key) == stored_key(key))
        .union(select(col(Record.connection_id)).where(col(Record.number) == key))
        .limit(500)
    )
    rows = await session.execute(
        select(Connection, col(Customer.name))
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .where(or_(col(Connection.id).in_(ids)))
        .order_by(col(Connection.setup) == "disconnected", col(Connection.id))
    )
    return [
        (
            connection.id,
            {
                fold(name)
                for name in (
                    connection.id,
                    connection.makini_key,
                    connection.name,
                    connection.slug,
                    label(customer, connection.provider, connection.name),
                )
            },
        )
        for connection, customer in rows
    ]


async def _is_connection(session: AsyncSession, subject: str) -> bool:
    try:
        await find_connection(session, subject)
    except NotFound:
        return False
    return True
