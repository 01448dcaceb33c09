"""Re-encrypting everything under the first key; may stop anywhere and be started again."""

from typing import Any

from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.store.engine import Store
from linekeeper.store.tables import AppSetting, Credential

_PORTION = 200


async def rotate_keys(store: Store) -> int:
    """Encrypt every token and setting anew under the first key; returns how many values.

    A value that changes meanwhile is left: whoever wrote it used the first key. Raises
    `KeyProblem` for a value none of the keys opens, leaving it as it is.
    """
    done = await _rotate(store, Credential, "connection_id", ("access_token", "refresh_token"))
    return done + await _rotate(store, AppSetting, "name", ("value",))


async def _rotate(store: Store, table: Any, key: str, columns: tuple[str, ...]) -> int:
    done, after = 0, ""
    identity = col(getattr(table, key))
    while True:
        statement = select(table).order_by(identity).limit(_PORTION)
        if after:
            statement = statement.where(identity > after)
        async with store.write() as session:
            rows = list(await session.scalars(statement))
            for row in rows:
                old = {name: getattr(row, name) for name in columns if getattr(row, name)}
                new = {name: store.cipher.rotate(value) for name, value in old.items()}
                await session.execute(
                    update(table)
                    .where(
                        identity == getattr(row, key),
                        *(col(getattr(table, name)) == value for name, value in old.items()),
                    )
                    .values(**new)
                    .execution_options(synchronize_session=False)
                )
                done += len(new)
        if len(rows) < _PORTION:
            return done
        after = getattr(rows[-1], key)
