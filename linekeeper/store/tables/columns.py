"""How columns are declared, once for all tables."""

from typing import Any

from sqlmodel import Field

from linekeeper.clock import utcnow
from linekeeper.store.types import Id, UtcDateTime, new_id


def identifier() -> Any:
    """The primary key: a UUIDv7, made here."""
    return Field(default_factory=new_id, primary_key=True, sa_type=Id)


def time(**options: Any) -> Any:
    """An aware UTC time, by default now."""
    return Field(default_factory=utcnow, sa_type=UtcDateTime, **options)


def optional_time(**options: Any) -> Any:
    """An aware UTC time, or nothing yet."""
    return Field(default=None, sa_type=UtcDateTime, **options)


def reference(target: str, **options: Any) -> Any:
    """The id of another table's row, `table.column`."""
    return Field(foreign_key=target, sa_type=Id, **options)
