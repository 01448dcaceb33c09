"""Statements about many values at once."""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Delete,
    String,
    Update,
    any_,
    delete,
    exists,
    func,
    literal,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.store.engine import Store


def update_many(table: Any) -> Update:
    """An `update` that objects of the session don't follow."""
    return update(table).execution_options(synchronize_session=False)


def delete_many(table: Any) -> Delete:
    """A `delete` that objects of the session don't follow."""
    return delete(table).execution_options(synchronize_session=False)


async def count_rows(session: AsyncSession, table: Any, *which: ColumnElement[bool]) -> int:
    """How many rows of `table` there are of these."""
    return await session.scalar(select(func.count()).select_from(table).where(*which)) or 0


def one_of(store: Store, column: Any, values: Sequence[str]) -> ColumnElement[bool]:
    """`column IN values` with one variable however many there are."""
    if store.is_sqlite:
        listed = func.json_each(orjson.dumps(list(values)).decode()).table_valued("value")
        return col(column).in_(select(listed.c.value))
    return col(column) == any_(literal(list(values), ARRAY(getattr(column, "type", String()))))


def is_listed(store: Store, column: Any, value: str) -> ColumnElement[bool]:
    """Whether the JSON list in `column` has `value` as one of its members."""
    if store.is_sqlite:
        listed = func.json_each(col(column)).table_valued("value")
        return exists().where(listed.c.value == value)
    return type_coerce(col(column), JSONB).contains([value])
