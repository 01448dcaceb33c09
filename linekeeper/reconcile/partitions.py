"""Rows of several connections and entities in one statement: JSON on SQLite, arrays on PostgreSQL.

One statement of whole columns takes a fraction of the time of one execution a row, and on SQLite
its thread and ours don't take turns at every row.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import BindParameter, DateTime, bindparam
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import String

from linekeeper.store import Store
from linekeeper.store.types import time_as_text

Partition = tuple[str, str]
"""Whose records: the connection's id and the entity."""
Column = tuple[str, type[str] | type[datetime]]

KEYS: tuple[Column, ...] = (("key", str),)
RECORDS: tuple[Column, ...] = (
    ("key", str),
    ("updated_at", datetime),
    ("hash", str),
    ("body", str),
    ("number", str),
    ("natural_key", str),
    ("plain_hash", str),
)
ANNOUNCED: tuple[Column, ...] = (("key", str), ("received_at", datetime), ("since", datetime))


def table(columns: Sequence[Column], *, is_sqlite: bool) -> str:
    """SQL of a table `one` with `connection_id`, `entity` and `columns`, its rows from `values`."""
    names = [name for name, _ in columns]
    if is_sqlite:
        # What has a LIMIT is computed once, and not anew for every row below it.
        partitions = (
            "SELECT value ->> 0 AS connection_id, value ->> 1 AS entity, value AS listed "
            "FROM json_each(:listed) LIMIT -1"
        )
        each = ", ".join(f"row.value ->> {n} AS {name}" for n, name in enumerate(names))
        return (
            f"(SELECT place.connection_id, place.entity, {each} FROM ({partitions}) AS place "  # noqa: S608 - our own names
            "CROSS JOIN json_each(place.listed, '$[2]') AS row) AS one"
        )
    lists = ", ".join(f":{name}_list" for name in names)
    return (
        f"unnest(CAST(:connection_id_list AS uuid[]), :entity_list, {lists}) "
        f"AS one(connection_id, entity, {', '.join(names)})"
    )


def parameters(columns: Sequence[Column], *, is_sqlite: bool) -> list[BindParameter[Any]]:
    """The variables of `table`, with their types."""
    if is_sqlite:
        return [bindparam("listed", type_=String)]
    types: dict[type, Any] = {str: ARRAY(String), datetime: ARRAY(DateTime(timezone=True))}
    known: list[Column] = [("connection_id", str), ("entity", str), *columns]
    return [bindparam(f"{name}_list", type_=types[kind]) for name, kind in known]


def values(
    store: Store, columns: Sequence[Column], rows: Mapping[Partition, Sequence[Sequence[Any]]]
) -> dict[str, Any]:
    """The values of `parameters`: of each place its rows, one value for each of `columns`."""
    if store.is_sqlite:
        listed = [[*partition, of_partition] for partition, of_partition in rows.items()]
        written = orjson.dumps(listed, time_as_text, orjson.OPT_PASSTHROUGH_DATETIME)
        return {"listed": written.decode()}
    flat = [row for of_partition in rows.values() for row in of_partition]
    lists = map(list, zip(*flat, strict=True)) if flat else ([] for _ in columns)
    return {
        "connection_id_list": [
            partition[0] for partition, of_partition in rows.items() for _ in of_partition
        ],
        "entity_list": [
            partition[1] for partition, of_partition in rows.items() for _ in of_partition
        ],
        **{f"{name}_list": values for (name, _), values in zip(columns, lists, strict=True)},
    }
