"""What a person asks about: a record of a connection, or the id of something."""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import literal_column, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.find import (
    ConnectionNames,
    Named,
    NotFound,
    connection_names,
    fold,
    named_connections,
)
from linekeeper.customers.naming import label
from linekeeper.store import is_id
from linekeeper.store.keys import stored_key
from linekeeper.store.tables import (
    Change,
    Connection,
    Customer,
    Incident,
    Outbox,
    Record,
    WebhookEvent,
)
from linekeeper.text import as_stored

_WITH_ID: dict[str, Any] = {
    "incident": Incident,
    "change": Change,
    "event": WebhookEvent,
    "message": Outbox,
}
_ORDER = list(_WITH_ID)
_OFFERED = 8
_HELD = 500
"""Records of one key or number, or deliveries of one id, that are looked at."""


@dataclass(frozen=True, slots=True)
class RecordSubject:
    """A record key or readable number, and the connection it is asked of."""

    connection_id: str
    key: str
    entity: str | None = None
    """Where the subject names it: `Acme · Maximo eam/assets 17`, or `… assets 17`."""


async def find_by_id(
    session: AsyncSession, wanted: str, apps: Collection[str]
) -> Incident | Change | WebhookEvent | Outbox | None:
    """What has that id: ours, or the sender's of a delivery at one of `apps`, or a dedupe key.

    The sender's id is looked for as it was stored: a long one by its hash, one of an unsigned
    header with the part of the body's hash that follows it. Of several deliveries it is the newest.
    """
    sent, before_hash = as_stored(wanted), f"{as_stored(wanted)}#"
    of_header = (
        select(col(WebhookEvent.id))
        .where(
            col(WebhookEvent.app).in_(apps),
            # The hash is hexadecimal: so the index is asked for a range.
            col(WebhookEvent.delivery_key).between(before_hash, f"{before_hash}g"),
            col(WebhookEvent.delivery_key).startswith(before_hash, autoescape=True),
        )
        .limit(_HELD)
        .subquery()
    )
    lookups: list[Any] = [
        select(literal_column("'event'"), col(WebhookEvent.id)).where(
            col(WebhookEvent.app).in_(apps), col(WebhookEvent.delivery_key) == sent
        ),
        select(literal_column("'event'"), of_header.c.id),
        select(literal_column("'message'"), col(Outbox.id)).where(col(Outbox.dedupe_key) == wanted),
    ]
    if is_id(wanted):
        lookups += [
            select(literal_column(f"'{name}'"), col(model.id)).where(col(model.id) == wanted)
            for name, model in _WITH_ID.items()
        ]
    rows = await session.execute(union_all(*lookups))
    newest_first = sorted(rows, key=lambda row: str(row[1]), reverse=True)
    for name, identifier in sorted(newest_first, key=lambda row: _ORDER.index(row[0])):
        candidate: Incident | Change | WebhookEvent | Outbox | None = await session.get(
            _WITH_ID[name], identifier
        )
        if candidate is not None:
            return candidate
    return None


def splits(subject: str) -> Iterator[tuple[str, str]]:
    """`Customer · System KEY` cut at each space, the shortest key first. Pure."""
    words = subject.split()
    for at in range(len(words) - 1, 0, -1):
        yield " ".join(words[:at]), " ".join(words[at:])


async def find_record(
    session: AsyncSession, subject: str, entities: Collection[str]
) -> RecordSubject:
    """The record meant. Raises `NotFound` with what comes near it, or where several are meant.

    `entities` are those that a subject may name before the key, as they are configured.

    The index is asked first, so that a key that is known costs a look at the few connections that
    have it; only for one that nobody has are all connections' names compared.
    """
    cuts: list[_Cut] = [(prefix, key, None) for prefix, key in splits(subject)]
    holders = await _holders(session, [subject, *(key for _, key, _ in cuts)])
    spoken = [*cuts, *_with_entity(cuts, entities)]
    for prefix, key, entity in spoken:
        asked = [holder for holder, names in holders.get(key, ()) if fold(prefix) in names]
        if len(asked) == 1:
            return RecordSubject(asked[0], key, entity)
        if asked:
            return _one_of(await named_connections(session), asked, key, entity)
    names_known = await connection_names(session)
    several = ""
    # Of a key that nobody has, the word before it is rather an entity than a part of the key.
    in_turn = (meant for cut in cuts for meant in (cut, *_with_entity([cut], entities)))
    for prefix, key, entity in in_turn:
        try:
            named = names_known.called(prefix)
        except NotFound as error:
            several = several or str(error)
            continue
        if named is not None:
            return RecordSubject(named.id, key, entity)
    own = holders.get(subject) or await _holders_before(session, subject)
    return await asyncio.to_thread(_without_connection, names_known, subject, own, several)


_Holder = tuple[str, set[str]]
"""A connection's id, and what people call it."""
_Cut = tuple[str, str, str | None]
"""What a subject may mean: the connection's name, the record's key, and its entity if named."""


def _with_entity(cuts: Sequence[_Cut], entities: Collection[str]) -> Iterator[_Cut]:
    """The cuts whose name ends in an entity, with that apart. Pure."""
    called_so = {fold(entity): entity for entity in entities}
    called_so |= {fold(entity.rpartition("/")[2]): entity for entity in entities}
    for prefix, key, _ in cuts:
        rest, _, last = prefix.rpartition(" ")
        if rest and (entity := called_so.get(fold(last))) is not None:
            yield rest, key, entity


def _one_of(
    everything: Sequence[Named], ids: Sequence[str], key: str, entity: str | None
) -> RecordSubject:
    """Return the living one of connections that are called alike and all have the key. Pure.

    Raises `NotFound` where several do.
    """
    among = sorted(
        (named for named in everything if named.id in ids), key=lambda named: named.makini_key
    )
    living = [named for named in among if named.setup != "disconnected"] or among
    if len(living) == 1:
        return RecordSubject(living[0].id, key, entity)
    offered = "; ".join(f"{named.makini_key} {key}" for named in living[:_OFFERED])
    raise NotFound(
        f"{len(living)} connections called {living[0].label!r} have {key!r}: give one of: {offered}"
    )


def _without_connection(
    names: ConnectionNames, key: str, holders: Sequence[_Holder], several: str
) -> RecordSubject:
    """A key alone is enough where one connection has it. Raises `NotFound`. Pure."""
    if len(holders) == 1:
        return RecordSubject(holders[0][0], key)
    if holders:
        among = {named.id: named for named in names.everything}
        labels = [among[holder].label for holder, _ in holders]
        offered = "; ".join(
            f"{label if labels.count(label) == 1 else among[holder].makini_key} {key}"
            for (holder, _), label in list(zip(holders, labels, strict=True))[:_OFFERED]
        )
        raise NotFound(f"{len(holders)} connections have {key!r}: give one of: {offered}")
    if several:
        raise NotFound(several)
    if names.called(key) is not None:
        raise NotFound(f"{key!r} is a connection: add the key or number of a record")
    if " " not in key:
        raise NotFound(
            f"nothing is known as {key!r}: no record, delivery, change, incident or message "
            "that is kept has this key, number or id. Rejected deliveries are not kept, and "
            "housekeeping removes old ones. Of a record give `Customer · System RECORD-KEY`"
        )
    prefix = next((prefix for prefix, _ in splits(key)), key)
    raise NotFound(
        f"nothing is known as {key!r}: give `Customer · System RECORD-KEY`, or the id of a "
        f"delivery, change, incident or message ({names.no_match(prefix)})"
    )


async def _holders(session: AsyncSession, keys: Sequence[str]) -> dict[str, list[_Holder]]:
    """Return the connections that have such a record, by key or number."""
    asked = {stored_key(key): key for key in keys}
    held: Any = union_all(
        select(col(Record.connection_id), col(Record.key).label("matched")).where(
            col(Record.key).in_([stored_key(key) for key in keys])
        ),
        select(col(Record.connection_id), col(Record.number).label("matched")).where(
            col(Record.number).in_(list(keys))
        ),
    ).limit(_HELD)
    of_keys: dict[str, list[_Holder]] = {}
    for key, holder in await _called(session, held):
        of_keys.setdefault(asked.get(key, key), []).append(holder)
    return of_keys


async def _holders_before(session: AsyncSession, key: str) -> list[_Holder]:
    """Return the connections that have a record which had that key before they renamed it."""
    held: Any = (
        select(col(Change.connection_id), col(Change.old_key).label("matched"))
        .where(
            col(Change.connection_id).in_(select(col(Connection.id))),  # so that the index is used
            col(Change.old_key).is_not(None),
            col(Change.old_key) == stored_key(key),
        )
        .limit(_HELD)
    )
    return [holder for _, holder in await _called(session, held)]


async def _called(session: AsyncSession, held: Any) -> list[tuple[str, _Holder]]:
    """Return each key that was found, once for each connection, with what people call that."""
    subquery = held.subquery()
    rows = await session.execute(
        select(Connection, col(Customer.name), subquery.c.matched)
        .join(subquery, subquery.c.connection_id == col(Connection.id))
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .order_by(col(Connection.setup) == "disconnected", col(Connection.id))
    )
    matches = {
        (key, connection.id): _names(connection, customer) for connection, customer, key in rows
    }
    return [(key, (connection_id, names)) for (key, connection_id), names in matches.items()]


def _names(connection: Connection, customer: str | None) -> set[str]:
    said = (customer, connection.provider, connection.name)
    spoken = (label(*said, connection.told_apart_by), label(*said, None))
    names = (connection.id, connection.makini_key, connection.name, connection.slug, *spoken)
    return {fold(name) for name in names}
