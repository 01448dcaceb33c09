"""Contents of records at rest: with `ENCRYPT_BODIES` under the keys that also encrypt tokens.

Plain JSON otherwise, which other programs read (INTERFACE). What was written before it was switched
on is read as it is until `rotate-keys` encrypts it, too.

The body of a webhook is stored as it came, so that a webhook costs no more, and is encrypted some
minutes after the event was settled. What it names, the record keys, is kept beside it: `explain`
looks for them, and they are columns of `record` anyway. Whoever reads a body opens it here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select, tuple_, update
from sqlmodel import col

from linekeeper.store.cipher import Cipher, KeyProblem
from linekeeper.store.engine import Store
from linekeeper.store.lists import update_many
from linekeeper.store.tables import Record, WebhookEvent
from linekeeper.store.types import table_of

_SEALED = "gAAAA"
"""How every Fernet token begins; no JSON does."""
_RECORD_IDENTITY = (col(Record.connection_id), col(Record.entity), col(Record.key))


def seal_body(cipher: Cipher, body: str | None) -> str | None:
    return None if body is None else cipher.encrypt(body)


def open_body(cipher: Cipher, kept: str | None) -> str | None:
    """The JSON again. Raises `KeyProblem` if none of the keys fits."""
    return cipher.decrypt(kept) if kept is not None and is_sealed(kept) else kept


def is_sealed(kept: str) -> bool:
    return kept.startswith(_SEALED)


@dataclass(frozen=True, slots=True)
class KeptBody:
    """One body, and whose it is: connection, entity and key."""

    record_identity: tuple[str, str, str]
    body: str


async def bodies_after(
    store: Store, record_identity: tuple[str, str, str] | None, *, limit: int
) -> list[KeptBody]:
    """The next bodies in the order of their places."""
    statement = select(*_RECORD_IDENTITY, col(Record.body)).where(col(Record.body).is_not(None))
    if record_identity is not None:
        statement = statement.where(tuple_(*_RECORD_IDENTITY) > record_identity)
    async with store.read() as session:
        rows = await session.execute(statement.order_by(*_RECORD_IDENTITY).limit(limit))
        return [KeptBody((row[0], row[1], row[2]), row[3] or "") for row in rows]


async def seal_again(store: Store, bodies: Sequence[KeptBody]) -> int:
    """Encrypt `bodies` under the first key; one that changed meanwhile is left. How many."""
    async with store.write() as session:
        for kept in bodies:
            body = open_body(store.cipher, kept.body)
            connection_id, entity, key = kept.record_identity
            await session.execute(
                update_many(Record)
                .where(
                    col(Record.connection_id) == connection_id,
                    col(Record.entity) == entity,
                    col(Record.key) == key,
                    col(Record.body) == kept.body,
                )
                .values(body=seal_body(store.cipher, body))
            )
    return len(bodies)


_EVENT = table_of(WebhookEvent)


def open_payload(cipher: Cipher, kept: bytes | None) -> bytes | None:
    """The body as it was received; None where it is gone, or where none of the keys opens it."""
    if kept is None:
        return None
    try:
        return cipher.unseal(kept)
    except KeyProblem:
        return None


@dataclass(frozen=True, slots=True)
class Payload:
    """A body as it is kept, and whose it is."""

    id: str
    kept: bytes


async def sealed_after(store: Store, last: str | None, *, limit: int) -> list[Payload]:
    """The next encrypted bodies in the order of arrival."""
    which = [_EVENT.c.body.is_not(None), _EVENT.c.body_keys.is_not(None)]
    if last is not None:
        which.append(_EVENT.c.id > last)
    statement = select(_EVENT.c.id, _EVENT.c.body).where(*which).order_by(_EVENT.c.id)
    async with store.read() as session:
        return [Payload(*row) for row in await session.execute(statement.limit(limit))]


async def reseal(store: Store, payloads: Sequence[Payload]) -> int:
    """Encrypt `payloads` anew under the first key; one that changed meanwhile is left."""
    sealed = [
        {"row_id": payload.id, "before": payload.kept, "after": store.cipher.seal(opened)}
        for payload in payloads
        if (opened := open_payload(store.cipher, payload.kept)) is not None
    ]
    if not sealed:
        return 0
    async with store.write() as session:
        connection = await session.connection()
        await connection.execute(
            update(_EVENT)
            .where(_EVENT.c.id == bindparam("row_id"), _EVENT.c.body == bindparam("before"))
            .values(body=bindparam("after")),
            sealed,
        )
    return len(sealed)
