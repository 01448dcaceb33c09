"""Rows in a database of before: an earlier schema's tables, which no model describes any more."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import MetaData, Table, insert
from sqlalchemy.engine import Connection

from linekeeper.store.types import UtcDateTime


def as_stored(connection: Connection, value: Any) -> Any:
    """A value as every version writes it into this database."""
    if isinstance(value, datetime):
        return UtcDateTime().process_bind_param(value, connection.dialect)
    return value


def fill(connection: Connection, rows: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Write `rows`, by the names of their tables."""
    metadata = MetaData()
    for name, values in rows.items():
        table = Table(name, metadata, autoload_with=connection)
        for value in values:
            stored = {key: as_stored(connection, item) for key, item in value.items()}
            connection.execute(insert(table).values(**stored))
