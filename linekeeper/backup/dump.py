"""Taking a backup: every row of one moment, while everything runs."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import LargeBinary, MetaData, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel

from linekeeper import __version__
from linekeeper.backup.file import BackupWriter, Header, writing
from linekeeper.clock import as_utc
from linekeeper.store import Store, StoreError
from linekeeper.store.cipher import fingerprint
from linekeeper.store.schema import head, require_current, schema_of

PROOF = "linekeeper backup"
_PORTION = 1_000


@dataclass(frozen=True, slots=True)
class BackupSummary:
    """What was written."""

    rows: int
    tables: int
    size: int
    """Bytes of the file."""
    keys: tuple[str, ...]
    """Fingerprints of the keys one needs to restore it."""


async def back_up(store: Store, path: Path, keys: Sequence[str], *, now: datetime) -> BackupSummary:
    """Write the whole database, as it is at one moment, into the file `path`.

    `keys` are the encryption keys in use: only their fingerprints go in. Nothing is locked; what
    is written meanwhile isn't in it. Raises `BackupError` if the file can't be written,
    `StoreError` or `KeyProblem` if the database can't be used.
    """
    await require_current(store)
    async with store.engine.connect() as plain:
        connection = plain
        if not store.is_sqlite:
            connection = await plain.execution_options(isolation_level="REPEATABLE READ")
        async with connection.begin():
            schema: str | None = await connection.run_sync(schema_of)
            if schema != head():
                raise StoreError(
                    f"the database's schema {schema} is newer than this version of Linekeeper "
                    f"(schema {head()})",
                    "back it up with the new version",
                )
            header = Header(
                version=__version__,
                schema=head(),
                engine=store.engine.dialect.name,
                taken_at=now.astimezone(UTC).isoformat(timespec="seconds"),
                keys=tuple(fingerprint(key) for key in keys),
                proof=store.cipher.encrypt(PROOF),
            )
            metadata = MetaData()
            await connection.run_sync(metadata.reflect, only=sorted(SQLModel.metadata.tables))
            tables = metadata.sorted_tables
            with writing(path, header, store.cipher) as writer:
                for table in tables:
                    await _write(connection, writer, table)
    return BackupSummary(writer.rows, len(tables), writer.size, header.keys)


async def _write(connection: AsyncConnection, writer: BackupWriter, table: Any) -> None:
    writer.table(table.name, [column.name for column in table.columns])
    plain = [_bytes if isinstance(c.type, LargeBinary) else _plain for c in table.columns]
    rows = await connection.stream(select(table), execution_options={"yield_per": _PORTION})
    async for row in rows:
        writer.row([turn(value) for turn, value in zip(plain, row, strict=True)])


def _bytes(value: Any) -> Any:
    return None if value is None else base64.b64encode(value).decode()


def _plain(value: Any) -> Any:
    match value:
        case str() | int() | None:
            return value
        case datetime():  # in the form SQLite keeps times in, so that they sort there
            return as_utc(value).isoformat(timespec="microseconds")
        case date():
            return value.isoformat()
        case UUID():
            return str(value)
    return value
