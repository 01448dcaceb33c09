"""Statements about many values at once."""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import ARRAY, ColumnElement, String, any_, func, literal, select
from sqlmodel import col

from linekeeper.store.engine import Store


def one_of(store: Store, column: Any, values: Sequence[str]) -> ColumnElement[bool]:
    """`column IN values` with one variable however many there are."""
    if store.is_sqlite:
        listed = func.json_each(orjson.dumps(list(values)).decode()).table_valued("value")
        return col(column).in_(select(listed.c.value))
    return col(column) == any_(literal(list(values), ARRAY(getattr(column, "type", String()))))
