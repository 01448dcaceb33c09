"""Re-encrypting everything under the first key; may stop anywhere and be started again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlmodel import col

from linekeeper.store.engine import Store
from linekeeper.store.tables import AppSetting, Credential

_PORTION = 200
_TABLES: tuple[tuple[Any, str, tuple[str, ...]], ...] = (
    (Credential, "connection_id", ("access_token", "refresh_token")),
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


async def rotate_keys(
    store: Store, *, tell: Callable[[Rotation], None] = lambda _: None, portion: int = _PORTION
) -> Rotation:
    """Encrypt every token and setting anew under the first key; returns what there was to do.

    Each portion is kept before the next begins, and `tell` hears of it. What is under the first
    key is only looked at, so that one that was stopped goes on where it was. A value that changes
    meanwhile is left: whoever wrote it used the first key. Raises `KeyProblem` for a value none of
    the keys opens, leaving its portion as it is.
    """
    rotation = Rotation()
    async with store.read() as session:
        for table, _, _ in _TABLES:
            rotation.total += await session.scalar(select(func.count()).select_from(table)) or 0
    for table, key, columns in _TABLES:
        identity, after = col(getattr(table, key)), None
        while True:
            statement = select(table).order_by(identity).limit(portion)
            if after is not None:
                statement = statement.where(identity > after)
            async with store.read() as session:
                rows = list(await session.scalars(statement))
            rotation.changed += await _renew(store, table, key, columns, rows)
            rotation.seen += len(rows)
            tell(rotation)
            if len(rows) < portion:
                break
            after = getattr(rows[-1], key)
    return rotation


async def _renew(
    store: Store, table: Any, key: str, columns: Sequence[str], rows: Sequence[Any]
) -> int:
    """Encrypt anew what of `rows` is under another key, in one transaction; returns how many."""
    old = {getattr(row, key): _under_others(store, row, columns) for row in rows}
    todo = {one: values for one, values in old.items() if values}
    if todo:
        async with store.write() as session:
            for one, values in todo.items():
                still = (col(getattr(table, name)) == value for name, value in values.items())
                await session.execute(
                    update(table)
                    .where(col(getattr(table, key)) == one, *still)
                    .values({name: store.cipher.rotate(value) for name, value in values.items()})
                    .execution_options(synchronize_session=False)
                )
    return len(todo)


def _under_others(store: Store, row: Any, columns: Sequence[str]) -> dict[str, str]:
    """What of `row` is not under the first key."""
    values = {name: getattr(row, name) for name in columns}
    return {
        name: value for name, value in values.items() if value and not store.cipher.is_first(value)
    }
