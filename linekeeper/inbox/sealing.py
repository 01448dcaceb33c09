"""Encrypting the bodies of webhooks once they are settled, and those of the version before."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import bindparam, literal_column, select, update

from linekeeper.clock import monotonic, utcnow
from linekeeper.exact import read
from linekeeper.inbox.identify import record_keys
from linekeeper.store import Store
from linekeeper.store.keys import stored_key
from linekeeper.store.tables import WebhookEvent
from linekeeper.store.types import table_of

SEALED_AFTER = timedelta(minutes=10)
"""Consumers of the version before, which can't open them, are gone by then."""
AT_ONCE = 500
_EVENT = table_of(WebhookEvent)


def keys_of(body: bytes) -> list[str]:
    """The record keys a body names, as they are stored. Pure."""
    return [stored_key(key) for key in record_keys(read(body))]


def kept_keys(body: bytes | None, body_keys: bytes | None) -> list[str]:
    """The record keys of a delivery as it is kept; of one that is encrypted, those beside it."""
    if body_keys is not None:
        keys = body_keys.decode("utf-8", "replace")
        return [key for key in keys.split("\0" if "\0" in keys else "\n") if key]
    return keys_of(body) if body else []


def joined(keys: Sequence[str]) -> bytes:
    """`keys` as they are kept beside what is encrypted: one a line, or where a line feed is in
    one, each after a NUL, which no stored key has. Pure."""
    has_line_feed = any("\n" in key for key in keys)
    text = "".join(f"\0{key}" for key in keys) if has_line_feed else "\n".join(keys)
    return text.encode("utf-8", "replace")


class Sealing:
    """What the consumer repeats. It begins late: while an installation is brought up to date,
    others can't open what is sealed yet."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._begins = monotonic() + SEALED_AFTER.total_seconds()

    async def step(self) -> bool:
        """Encrypt some; whether there may be more."""
        return monotonic() > self._begins and await seal_settled(self._store, now=utcnow())


async def seal_settled(store: Store, *, now: datetime) -> bool:
    """Encrypt up to `AT_ONCE` bodies settled `SEALED_AFTER` ago; whether there may be more."""
    async with store.read() as session:
        rows = (
            await session.execute(
                select(_EVENT.c.id, _EVENT.c.body)
                .where(
                    # As the partial index has it.
                    _EVENT.c.status != literal_column("'pending'"),
                    _EVENT.c.body.is_not(None),
                    _EVENT.c.body_keys.is_(None),
                    _EVENT.c.processed_at < now - SEALED_AFTER,
                )
                .order_by(_EVENT.c.processed_at)
                .limit(AT_ONCE)
            )
        ).all()
    if not rows:
        return False
    sealed = [
        {
            "row_id": row.id,
            "after": store.cipher.seal(row.body),
            "keys": joined(keys_of(row.body)),
        }
        for row in rows
    ]
    async with store.write() as session:
        connection = await session.connection()
        await connection.execute(
            update(_EVENT)
            .where(
                _EVENT.c.id == bindparam("row_id"),
                _EVENT.c.body.is_not(None),
                _EVENT.c.body_keys.is_(None),
            )
            .values(body=bindparam("after"), body_keys=bindparam("keys")),
            sealed,
        )
    return len(rows) == AT_ONCE
