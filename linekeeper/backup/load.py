"""Restoring: a whole backup into an empty database, in one transaction."""

import base64
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Date, DateTime, LargeBinary, MetaData, Table, Uuid, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel, col

from linekeeper.backup.dump import PROOF
from linekeeper.backup.file import BackupError, Header, Reader
from linekeeper.reconcile.feed import leave_gap
from linekeeper.store import KeyProblem, Store, StoreError
from linekeeper.store.engine import begin_writing
from linekeeper.store.errors import trouble_of
from linekeeper.store.migrate import build_schema, say_whom_it_serves
from linekeeper.store.schema import KEY_CHECK, SERVES, schema_of
from linekeeper.store.tables import (
    ApiKey,
    AppSetting,
    Audit,
    Credential,
    OpenProcess,
    PartHeartbeat,
    PendingLogin,
)
from linekeeper.store.types import table_of
from linekeeper.watch.decide import PREFECT, WATCHERS, WORKERS

_PORTION = 500
_PARTS = table_of(PartHeartbeat)
_FORGET_PARTS = _PARTS.delete().where(_PARTS.c.kind.in_((*WATCHERS, WORKERS, PREFECT)))
"""What was done last, such as a sweep, is as true of the copy."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back."""

    header: Header
    rows: int
    schema: str
    """The schema now; newer than the backup's where migrations were run on it."""
    revoked_keys: int = 0
    """API keys that an unsigned backup brought, and that have to be made anew."""


async def restore(
    store: Store, path: Path, *, by: str, now: datetime, accept_unsigned: bool = False
) -> Restored:
    """Put the backup at `path` into the empty database of `store`, whole or not at all.

    A backup of an older schema is migrated. One of Linekeeper 0.1, whose seal anybody can make, is
    taken with `accept_unsigned` only, and its API keys come back revoked. Raises `BackupError` for
    a file that is no whole backup, is of a newer schema, or where the database isn't empty;
    `KeyProblem` if our keys don't open it; `StoreError` if the database refuses.
    """
    reader = Reader.of(path)
    header = reader.header()
    try:
        if store.cipher.decrypt(header.proof) != PROOF:
            raise KeyProblem
    except KeyProblem:
        raise KeyProblem(wrong_keys(path, header)) from None
    reader.verify(store.cipher)
    if not (header.is_signed or accept_unsigned):
        raise BackupError(
            f"{path} was taken by Linekeeper {header.version}, whose backups carry no seal that "
            "would show a change. If you trust where it comes from, restore it with "
            "--accept-unsigned: its API keys then come back revoked. Nothing was restored"
        )
    try:
        async with store.engine.connect() as connection, connection.begin():
            await connection.run_sync(begin_writing)
            await _make_room(connection)
            if not await connection.run_sync(build_schema, header.schema):
                raise BackupError(
                    f"{path} was taken with a newer Linekeeper ({header.version}, schema "
                    f"{header.schema}): install that version or a later one first"
                )
            rows = await _load(connection, reader)
            await connection.run_sync(build_schema, "head")
            await connection.run_sync(say_whom_it_serves, store.cipher)
            # Whoever had the other database open has not this one, and runs beside it alone.
            await connection.execute(table_of(OpenProcess).delete())
            await connection.execute(_FORGET_PARTS)
            await _require_readable(connection, store, path, header)
            await leave_gap(connection)
            revoked = 0 if header.is_signed else await _revoke_keys(connection, now)
            await _note(connection, header, by=by, now=now)
            schema = await connection.run_sync(schema_of)
    except (DBAPIError, OSError) as error:
        raise StoreError(f"{trouble_of(error)}; nothing was restored") from error
    return Restored(header, rows, schema or "", revoked)


def wrong_keys(path: Path, header: Header) -> str:
    """What to say where the keys at hand don't open a backup."""
    return (
        f"{path} needs the encryption key{'s' if len(header.keys) > 1 else ''} with the "
        f"fingerprint {', '.join(header.keys)}: put the key it was taken with into "
        "LINEKEEPER_ENCRYPTION_KEYS or HOME/encryption-keys; nothing was restored"
    )


async def _make_room(connection: AsyncConnection) -> None:
    """Clear away a schema without rows. Raises `BackupError` if there is anything in it."""
    metadata = MetaData()
    await connection.run_sync(metadata.reflect)
    foreign = metadata.tables.keys() - {*SQLModel.metadata.tables, "alembic_version"}
    if foreign:
        raise BackupError(
            f"the database has tables of another application ({', '.join(sorted(foreign)[:3])}): "
            "restore into an empty one of Linekeeper's own; nothing was changed"
        )
    for table in metadata.sorted_tables:
        counted = select(func.count()).select_from(table)
        if table.name == "alembic_version":
            continue
        if table.name == AppSetting.__tablename__:
            counted = counted.where(table.c.name.not_in((KEY_CHECK, SERVES)))
        if count := await connection.scalar(counted):
            raise BackupError(
                f"the database is not empty ({count} rows in {table.name}): restore into an empty "
                "one (another LINEKEEPER_HOME or LINEKEEPER_DATABASE_URL); nothing was changed"
            )
    await connection.run_sync(metadata.drop_all)


async def _load(connection: AsyncConnection, reader: Reader) -> int:
    metadata = MetaData()
    await connection.run_sync(metadata.reflect)
    done = 0
    for name, group in itertools.groupby(reader.rows(), key=lambda row: row[0]):
        table = metadata.tables[name]
        for portion in _portions(table, group):
            await connection.execute(table.insert(), portion)
            done += len(portion)
    return done


def _portions(
    table: Table, rows: Iterator[tuple[str, list[str], list[Any]]]
) -> Iterator[list[dict[str, Any]]]:
    turns = {column.name: _turn(column.type) for column in table.columns}
    for column in table.columns:
        if isinstance(column.type, JSON):
            column.type.none_as_null = True
    while portion := list(itertools.islice(rows, _PORTION)):
        yield [
            {
                name: None if value is None else turns[name](value)
                for name, value in zip(columns, values, strict=True)
            }
            for _, columns, values in portion
        ]


def _turn(kind: Any) -> Callable[[Any], Any]:
    """How a JSON value becomes one of a column's type."""
    for known, turn in _TURNS:
        if isinstance(kind, known):
            return turn
    return lambda value: value


_TURNS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (LargeBinary, base64.b64decode),
    (DateTime, datetime.fromisoformat),
    (Date, date.fromisoformat),
    (Uuid, UUID),
)


async def _require_readable(
    connection: AsyncConnection, store: Store, path: Path, header: Header
) -> None:
    """Raise `KeyProblem` unless our keys open every secret: an older key may be needed too."""
    for values in (
        select(col(Credential.access_token), col(Credential.refresh_token)),
        select(col(PendingLogin.access_token), col(PendingLogin.refresh_token)),
        select(col(AppSetting.value)),
    ):
        for row in await connection.execute(values):
            for value in row:
                try:
                    if value:
                        store.cipher.decrypt(value)
                except KeyProblem:
                    raise KeyProblem(wrong_keys(path, header)) from None


async def _revoke_keys(connection: AsyncConnection, now: datetime) -> int:
    """End every key the file brought: one may have been planted in it."""
    keys = table_of(ApiKey)
    ended = await connection.execute(
        keys.update().where(keys.c.revoked_at.is_(None)).values(revoked_at=now)
    )
    return ended.rowcount


async def _note(connection: AsyncConnection, header: Header, *, by: str, now: datetime) -> None:
    entry = Audit(
        at=now,
        by=by,
        action="backup.restored",
        subject=header.taken_at,
        detail={"version": header.version, "schema": header.schema, "signed": header.is_signed},
    )
    await connection.execute(table_of(Audit).insert(), [entry.model_dump()])
