"""Re-encrypting everything under the first key; may stop anywhere and be started again."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlmodel import col

from linekeeper.store.bodies import (
    KeptBody,
    Payload,
    bodies_after,
    is_sealed,
    open_payload,
    reseal,
    seal_again,
    sealed_after,
)
from linekeeper.store.cipher import KeyProblem
from linekeeper.store.engine import Store
from linekeeper.store.lists import count_rows, update_many
from linekeeper.store.processes import DatabaseProcess, wait_until_ended
from linekeeper.store.tables import AppSetting, Credential, PendingLogin, Record, WebhookEvent

_PORTION = 200
_TABLES: tuple[tuple[Any, str, tuple[str, ...]], ...] = (
    (Credential, "connection_id", ("access_token", "refresh_token")),
    (PendingLogin, "id", ("access_token", "refresh_token")),
    (AppSetting, "name", ("value",)),
)


@dataclass(slots=True)
class Rotation:
    """How far a rotation has come, in rows."""

    total: int = 0
    """Rows there were at the start."""
    seen: int = 0
    changed: int = 0
    """Encrypted anew; the rest of `seen` was under the first key already."""
    unreadable: list[str] = field(default_factory=list)
    """Rows that none of the keys opens, left as they are: table and key."""
    written_since: list[str] = field(default_factory=list)
    """Rows that another process wrote under an older key while this went on: table and key."""
    writers: Sequence[DatabaseProcess] = ()
    """Processes that have the database open and encrypt with another key, silent ones too."""

    @property
    def is_complete(self) -> bool:
        """Whether the older keys are needed by no row and by no process."""
        return not (self.unreadable or self.written_since or self.writers)


class OthersEncrypt(Exception):
    """Processes that are alive would not read what is encrypted anew: nothing was changed."""

    def __init__(self, writers: Sequence[DatabaseProcess]) -> None:
        super().__init__(", ".join(map(str, writers)))
        self.writers = writers


async def rotate_keys(
    store: Store,
    *,
    alone_within: float | None = None,
    report: Callable[[Rotation], None] = lambda _: None,
    portion: int = _PORTION,
    look_again_after: float = 0.0,
) -> Rotation:
    """Encrypt tokens, settings and bodies anew under the first key; returns what there was to do.

    Each portion is kept before the next begins, and `report` is called with it. What is under the
    first key is only looked at, so that one that was stopped goes on where it was. A value that
    changes meanwhile is left. Processes that were not restarted still encrypt with an older key:
    they are waited for, `look_again_after` seconds at most, and those that remain are named; then
    everything is looked at once more. A row that none of the keys opens is named and holds up
    nothing. Raises `KeyProblem` where no row at all can be opened, and with `alone_within`
    `OthersEncrypt`, before anything is changed, where after so many seconds processes that are
    alive go by another key.
    """
    if alone_within is not None:
        others = await wait_until_ended(store, seconds=alone_within)
        if alive := [writer for writer in others if not writer.is_silent]:
            raise OthersEncrypt(alive)
    rotation = Rotation()
    async with store.read() as session:
        for table, _, _ in _TABLES:
            rotation.total += await count_rows(session, table)
        rotation.total += await count_rows(session, Record, col(Record.body).is_not(None))
        sealed = col(WebhookEvent.body_keys).is_not(None)
        rotation.total += await count_rows(session, WebhookEvent, sealed)
    async for table, key, columns, rows in _portions(store, portion):
        readable = [row for row in rows if _is_readable(store, row, columns)]
        rotation.unreadable += [_named(table, key, row) for row in rows if row not in readable]
        rotation.changed += await _renew(store, table, key, columns, readable)
        rotation.seen += len(rows)
        report(rotation)
    async for kept in _bodies(store, portion):
        fits = [each for each in kept if _body_opens(store, each)]
        rotation.unreadable += [_body_named(each) for each in kept if each not in fits]
        old = [each for each in fits if _is_to_seal(store, each)]
        rotation.changed += await seal_again(store, old) if old else 0
        rotation.seen += len(kept)
        report(rotation)
    async for payloads in _payloads(store, portion):
        shut = [payload for payload in payloads if open_payload(store.cipher, payload.kept) is None]
        rotation.unreadable += [f"webhook_event {payload.id}" for payload in shut]
        rotation.changed += await reseal(store, _under_older(store, payloads))
        rotation.seen += len(payloads)
        report(rotation)
    if rotation.seen and len(rotation.unreadable) == rotation.seen:
        raise KeyProblem(
            "none of the keys opens anything in this database: put the key it was written with "
            "into LINEKEEPER_ENCRYPTION_KEYS (comma list; the first one encrypts)"
        )
    rotation.writers = await wait_until_ended(store, seconds=look_again_after)
    async for table, key, columns, rows in _portions(store, portion):
        for row in rows:
            if _under_others(store, row, columns) and _is_readable(store, row, columns):
                rotation.written_since.append(_named(table, key, row))
    async for kept in _bodies(store, portion):
        rotation.written_since += [
            _body_named(each)
            for each in kept
            if _is_to_seal(store, each) and _body_opens(store, each)
        ]
    async for payloads in _payloads(store, portion):
        older = _under_older(store, payloads)
        rotation.written_since += [f"webhook_event {payload.id}" for payload in older]
    return rotation


async def _payloads(store: Store, portion: int) -> AsyncIterator[list[Payload]]:
    """Every encrypted body of a webhook, a portion at a time."""
    payloads = await sealed_after(store, None, limit=portion)
    while payloads:
        yield payloads
        payloads = await sealed_after(store, payloads[-1].id, limit=portion)


def _under_older(store: Store, payloads: Sequence[Payload]) -> list[Payload]:
    """Those of `payloads` that one of the keys opens, but not the first."""
    return [
        payload
        for payload in payloads
        if not store.cipher.is_sealed_by_first(payload.kept)
        and open_payload(store.cipher, payload.kept) is not None
    ]


async def _bodies(store: Store, portion: int) -> AsyncIterator[list[KeptBody]]:
    """Every body of a record, a portion at a time."""
    kept = await bodies_after(store, None, limit=portion)
    while kept:
        yield kept
        kept = await bodies_after(store, kept[-1].record_identity, limit=portion)


def _is_to_seal(store: Store, kept: KeptBody) -> bool:
    """Whether it is under another key, or plain where it is to be encrypted."""
    if not is_sealed(kept.body):
        return store.encrypts_bodies
    return not store.cipher.is_first(kept.body)


def _body_opens(store: Store, kept: KeptBody) -> bool:
    return not is_sealed(kept.body) or store.cipher.opens(kept.body)


def _body_named(kept: KeptBody) -> str:
    return f"record {' '.join(kept.record_identity)}"


async def _portions(
    store: Store, portion: int
) -> AsyncIterator[tuple[Any, str, tuple[str, ...], list[Any]]]:
    """Every row of every table, a portion at a time."""
    for table, key, columns in _TABLES:
        identity, after = col(getattr(table, key)), None
        while True:
            statement = select(table).order_by(identity).limit(portion)
            if after is not None:
                statement = statement.where(identity > after)
            async with store.read() as session:
                rows = list(await session.scalars(statement))
            yield table, key, columns, rows
            if len(rows) < portion:
                break
            after = getattr(rows[-1], key)


def _named(table: Any, key: str, row: Any) -> str:
    return f"{table.__tablename__} {getattr(row, key)}"


def _is_readable(store: Store, row: Any, columns: Sequence[str]) -> bool:
    values = (getattr(row, name) for name in columns)
    return all(store.cipher.opens(value) for value in values if value)


async def _renew(
    store: Store, table: Any, key: str, columns: Sequence[str], rows: Sequence[Any]
) -> int:
    """Encrypt anew what of `rows` is under another key, in one transaction; returns how many."""
    old = {getattr(row, key): _under_others(store, row, columns) for row in rows}
    todo = {connection: values for connection, values in old.items() if values}
    if todo:
        async with store.write() as session:
            for row_key, values in todo.items():
                still = (col(getattr(table, name)) == value for name, value in values.items())
                await session.execute(
                    update_many(table)
                    .where(col(getattr(table, key)) == row_key, *still)
                    .values({name: store.cipher.rotate(value) for name, value in values.items()})
                )
    return len(todo)


def _under_others(store: Store, row: Any, columns: Sequence[str]) -> dict[str, str]:
    """What of `row` is not under the first key."""
    values = {name: getattr(row, name) for name in columns}
    return {
        name: value for name, value in values.items() if value and not store.cipher.is_first(value)
    }
