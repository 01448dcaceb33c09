"""The index, record by record, however large it is."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select, tuple_
from sqlmodel import col

from linekeeper.store import Store
from linekeeper.store.bodies import open_body
from linekeeper.store.tables import Connection, Record

AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class RecordChoice:
    """Which records."""

    connections: Sequence[str] | None = None
    """Ids; None: of every connection."""
    entities: Sequence[str] | None = None
    deleted: bool = False
    """Tombstones too."""

    @property
    def condition(self) -> list[ColumnElement[bool]]:
        """Return it as a condition of a query."""
        conditions: list[ColumnElement[bool]] = []
        if self.connections is not None:
            conditions.append(col(Record.connection_id).in_(self.connections))
        if self.entities:
            conditions.append(col(Record.entity).in_(self.entities))
        if not self.deleted:
            conditions.append(col(Record.deleted_at).is_(None))
        return conditions


async def count_records(store: Store, choice: RecordChoice) -> int:
    async with store.read() as session:
        statement = select(func.count()).select_from(Record).where(*choice.condition)
        return await session.scalar(statement) or 0


async def export_records(store: Store, choice: RecordChoice) -> AsyncIterator[list[dict[str, Any]]]:
    """The records by connection, entity and key, some thousand at a time.

    Each is as it was when it was read; nothing is locked meanwhile. `body` is Makini's JSON, kept
    only where `MAKINI_BODIES` names the entity.
    """
    identity = tuple_(col(Record.connection_id), col(Record.entity), col(Record.key))
    after: tuple[str, str, str] | None = None
    while True:
        statement = (
            select(Record, col(Connection.makini_key))
            .join(Connection, col(Connection.id) == col(Record.connection_id))
            .where(*choice.condition)
            .order_by(col(Record.connection_id), col(Record.entity), col(Record.key))
            .limit(AT_ONCE)
        )
        if after is not None:
            statement = statement.where(identity > after)
        async with store.read() as session:
            rows = (await session.execute(statement)).all()
        if rows:
            yield [
                {
                    "connection": record.connection_id,
                    "makini_key": makini_key,
                    "entity": record.entity,
                    "key": record.key,
                    "updated_at": record.updated_at,
                    "deleted_at": record.deleted_at,
                    "hash": record.hash,
                    "body": open_body(store.cipher, record.body),
                }
                for record, makini_key in rows
            ]
            last = rows[-1][0]
            after = (last.connection_id, last.entity, last.key)
        if len(rows) < AT_ONCE:
            return
