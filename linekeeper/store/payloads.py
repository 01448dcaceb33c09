"""Bodies of webhooks at rest: encrypted under the keys that also encrypt tokens.

A body is stored as it came, so that a webhook costs no more, and is encrypted some minutes after
the event was settled. What it names, the record keys, is kept beside it: `explain` looks for them,
and they are columns of `record` anyway. Whoever reads a body opens it here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select, update

from linekeeper.store.cipher import Cipher, KeyProblem
from linekeeper.store.engine import Store
from linekeeper.store.tables import WebhookEvent
from linekeeper.store.types import table_of

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
        {"row_id": one.id, "before": one.kept, "after": store.cipher.seal(opened)}
        for one in payloads
        if (opened := open_payload(store.cipher, one.kept)) is not None
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
