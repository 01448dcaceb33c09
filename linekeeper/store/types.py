"""Column types that are the same in Python on both databases, and how columns are declared."""

import re
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from inspect import Signature
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import msgspec
import orjson
from sqlalchemy import JSON, Column, DateTime, String, Uuid, inspect
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import Field, SQLModel

from linekeeper.clock import as_utc, new_id, utcnow


def id_floor(at: datetime) -> str:
    """The smallest UUIDv7 made at `at`."""
    milliseconds = max(0, int(at.timestamp() * 1000))
    return str(UUID(int=(milliseconds << 80) | (0x7 << 76)))


if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Data = TypeVar("_Data", bound="DataclassInstance")
_Held = TypeVar("_Held", bound=msgspec.Struct)
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_id(text: str) -> bool:
    """Whether `text` can be an id of ours; PostgreSQL refuses to compare anything else with one."""
    return _ID.fullmatch(text) is not None


_ID_AS_TEXT, _ID_ITSELF = String(36), Uuid(as_uuid=False)
_TIME_AS_TEXT, _TIME_ITSELF = String(32), DateTime(timezone=True)
"""Made once: SQLAlchemy asks for them with each list of parameters, and keeps with a type what it
finds out about it."""


class Id(TypeDecorator[str]):
    """A UUID: native on PostgreSQL, 36 characters of text on SQLite, always `str` in Python."""

    impl = Uuid
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return _ID_AS_TEXT if dialect.name == "sqlite" else _ID_ITSELF


def time_as_text(time: datetime) -> str:
    """A time in UTC as columns of SQLite have it: its `isoformat` with microseconds, which takes
    three times as long."""
    if type(time) is not datetime:  # such as Prefect's, which orjson does not know
        return time.isoformat(timespec="microseconds")
    written = orjson.dumps(time)
    if len(written) == _WITH_MICROSECONDS:
        return written[1:-1].decode()
    return f"{written[1:20].decode()}.000000+00:00"


_WITH_MICROSECONDS = len('"2026-01-01T00:00:00.000001+00:00"')


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time: `timestamptz` on PostgreSQL, ISO-8601 text on SQLite.

    The text has `T`, microseconds and `+00:00`, so that it sorts and compares as time does.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return _TIME_AS_TEXT if dialect.name == "sqlite" else _TIME_ITSELF

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without zone can't be stored: {value!r}")
        if value.tzinfo is not UTC:
            value = value.astimezone(UTC)
        return time_as_text(value) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else value
        return as_utc(parsed)  # the first and last moments come back from asyncpg without a zone


Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class AsStruct(TypeDecorator[_Held]):
    """A column of JSON, read and written as a msgspec struct without a `dict` in between."""

    impl = JSON
    cache_ok = True

    def __init__(self, struct: type[_Held]) -> None:
        super().__init__()
        self.struct = struct

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(JSONB() if dialect.name == "postgresql" else JSON())

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], str]:
        encode = msgspec.json.Encoder().encode
        return lambda value: encode(value).decode()

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], _Held]:
        if dialect.name == "postgresql":  # the driver has read the JSON already
            return lambda value: msgspec.convert(value, self.struct)
        return msgspec.json.Decoder(self.struct).decode


def table_of(model: type[SQLModel]) -> Any:
    """The table of `model`, for statements past the ORM: SQLModel doesn't declare it."""
    return inspect(model).local_table


def _factory(make: Callable[[], Any]) -> Callable[[], Any]:
    """`make`, as a `default_factory` that says at once how it is called.

    pydantic asks that of each one for every row: a fifth to a half of the time of making one.
    """

    def made() -> Any:
        return make()

    vars(made)["__signature__"] = Signature()
    return made


_new_id, _utcnow, _dict, _list = map(_factory, (new_id, utcnow, dict[str, Any], list[Any]))


def identifier() -> Any:
    """The primary key: a UUIDv7, made here."""
    return Field(default_factory=_new_id, primary_key=True, sa_type=Id)


def time(**options: Any) -> Any:
    """An aware UTC time, by default now."""
    return Field(default_factory=_utcnow, sa_type=UtcDateTime, **options)


def optional_time(**options: Any) -> Any:
    """An aware UTC time, or nothing yet."""
    return Field(default=None, sa_type=UtcDateTime, **options)


def json_object(**options: Any) -> Any:
    """Names and values as JSON, none by default. `options` are the column's."""
    return Field(default_factory=_dict, sa_column=Column(Json, nullable=False, **options))


def json_array(**options: Any) -> Any:
    """A list as JSON, empty by default. `options` are the column's."""
    return Field(default_factory=_list, sa_column=Column(Json, nullable=False, **options))


def reference(target: str, **options: Any) -> Any:
    """The id of another table's row, `table.column`."""
    return Field(foreign_key=target, sa_type=Id, **options)


def renamed(column: str, name: str, **options: Any) -> Any:
    """What is called `name` here and `column` in the database, from before it had its name.

    The column keeps it: while a new version takes over, the one before goes on beside it.
    """
    return Field(sa_column_kwargs={"name": column, "key": name}, **options)


def from_row(kind: type[_Data], row: object, /, **differently: Any) -> _Data:
    """A `kind` of what `row` has under the same names, but for what is given `differently`."""
    same = (each.name for each in fields(kind) if each.name not in differently)
    return kind(**{name: getattr(row, name) for name in same}, **differently)
