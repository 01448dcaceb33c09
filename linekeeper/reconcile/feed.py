"""The change feed: what changed, in order, with a cursor that never skips anything.

Rows are numbered per connection when they are written (`seq`), and get their place in the feed of
all connections (`position`) when it is first read: so a transaction that commits late is placed
after what was read before it, never in front.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlmodel import Field, col, insert

from linekeeper.answers import Answer, UtcTime
from linekeeper.store import Store, new_id
from linekeeper.store.engine import insert_ignore
from linekeeper.store.tables import Change, Connection, FeedEnd, FeedRead
from linekeeper.store.types import table_of

MOST = 1_000
_PLACED_AT_ONCE = 5_000
_VERSION = "1:"
GAP = 10**12
"""How far ahead of a backup its feed goes on: cursors given after the backup was taken stay
behind whatever the restored feed has to say."""


class BadCursor(ValueError):
    """The cursor is none of ours."""


class ChangeAnswer(Answer):
    """One change of the feed."""

    id: str
    connection: str
    makini_key: str
    entity: str
    key: str
    op: Literal["inserted", "updated", "deleted", "rekeyed"]
    updated_at: UtcTime | None
    old_key: str = Field("", description="Of `rekeyed`: the key that the record had before")


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the feed, and the cursor to go on with."""

    changes: list[ChangeAnswer]
    next: str
    after: int
    """The position the cursor it was asked with stands for ..."""
    upto: int
    """... and the last one given; the same where nothing is new."""


async def read_feed(store: Store, after: str | None, *, limit: int = MOST) -> Page:
    """Up to `limit` changes after the cursor `after`, from the beginning without one.

    Each connection's changes come in the order in which they were found, each once. With nothing
    new, `next` is the same place again. Raises `BadCursor`.
    """
    position = position_of(after)
    await _number(store)
    async with store.read() as session:
        if position > (await session.scalar(select(col(FeedEnd.position))) or 0):
            raise BadCursor(
                "the cursor is ahead of all there is: it is of another database. Leave `after` "
                "out and start over; a change that you have had already does no harm twice"
            )
        rows: Sequence[Any] = (
            await session.execute(
                select(
                    col(Change.position),
                    col(Change.id),
                    col(Change.connection_id).label("connection"),
                    col(Connection.makini_key),
                    col(Change.entity),
                    col(Change.key),
                    col(Change.op),
                    col(Change.updated_at),
                    col(Change.old_key),
                )
                .join(Connection, col(Connection.id) == col(Change.connection_id))
                .where(col(Change.position) > position)
                .order_by(col(Change.position))
                .limit(min(limit, MOST))
            )
        ).all()
    last = (rows[-1].position if rows else position) or 0
    return Page([_answer(row._mapping) for row in rows], cursor(last), position, last)


def _answer(row: Mapping[Any, Any]) -> ChangeAnswer:
    fields = dict(row)
    del fields["position"]
    if fields["old_key"] is None:
        del fields["old_key"]
    return ChangeAnswer.model_construct(**fields)  # what is in our table needs no validation


def cursor(position: int) -> str:
    """The opaque text for a place in the feed."""
    return base64.urlsafe_b64encode(f"{_VERSION}{position}".encode()).decode().rstrip("=")


def position_of(after: str | None) -> int:
    """The place a cursor stands for; 0 without one. Raises `BadCursor`."""
    if not after:
        return 0
    try:
        text = base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)).decode("ascii")
        number = text.removeprefix(_VERSION)
        if text == number or not (number.isascii() and number.isdigit()) or len(number) > 18:
            raise ValueError(text)
        return int(number)
    except (ValueError, binascii.Error) as error:
        raise BadCursor("the cursor is none of ours: give `next` of an earlier answer") from error


async def leave_gap(connection: AsyncConnection) -> None:
    """Have the feed of a restored backup go on far ahead of what its product may have read.

    What was given after the backup was taken is lost here, and its places with it. Given again to
    other changes, they would be skipped by the cursors that the product holds.
    """
    table = table_of(FeedEnd)
    await connection.execute(update(table).values(position=table.c.position + GAP))


async def _number(store: Store) -> None:
    """Give every change that has none its place, each connection's in order."""
    while True:
        async with store.read() as session:
            if not await _unnumbered(session, 1):
                return
        async with store.write() as session:
            last = await _lock_end(store, session)
            ids = await _unnumbered(session, _PLACED_AT_ONCE)
            if ids:
                connection = await session.connection()
                await connection.execute(
                    update(table_of(Change))
                    .where(col(Change.id) == bindparam("placed_id"))
                    .values(position=bindparam("placed_at")),
                    [
                        {"placed_id": change_id, "placed_at": at}
                        for at, change_id in enumerate(ids, start=last + 1)
                    ],
                )
                await session.execute(update(FeedEnd).values(position=last + len(ids)))


async def _lock_end(store: Store, session: AsyncSession) -> int:
    await insert_ignore(store, session, FeedEnd, [{"id": 1, "position": 0}])
    return await session.scalar(select(col(FeedEnd.position)).with_for_update()) or 0


async def _unnumbered(session: AsyncSession, limit: int) -> list[str]:
    return list(
        await session.scalars(
            select(col(Change.id))
            .where(col(Change.position).is_(None))
            .order_by(col(Change.connection_id), col(Change.seq))
            .limit(limit)
        )
    )


MOST_HELD = 1_000
"""Rows held while the database can't be written; older ones give way."""


@dataclass(slots=True)
class Stretch:
    """A part of the feed that one key has read without a gap."""

    key_id: str
    after: int
    upto: int
    at: datetime


class FeedReads:
    """The reads of one process that are not written yet."""

    def __init__(self) -> None:
        self._held: list[Stretch] = []

    def note(self, key_id: str, after: int, upto: int, *, at: datetime) -> None:
        """The key was given what lies between two positions; a read without news is none."""
        if upto <= after:
            return
        for stretch in reversed(self._held):
            if stretch.key_id == key_id and stretch.upto == after:
                stretch.upto, stretch.at = upto, at
                return
        self._held.append(Stretch(key_id, after, upto, at))

    async def flush(self, store: Store) -> None:
        """Write what was gathered; if that fails it is kept for the next time, and raised."""
        held, self._held = self._held, []
        if not held:
            return
        try:
            async with store.write() as session:
                await session.execute(insert(FeedRead), _rows(held))
        except BaseException:
            self._held = (held + self._held)[-MOST_HELD:]
            raise


def _rows(stretches: Sequence[Stretch]) -> list[dict[str, object]]:
    return [
        {
            "id": new_id(),
            "key_id": stretch.key_id,
            "after": stretch.after,
            "upto": stretch.upto,
            "at": stretch.at,
        }
        for stretch in stretches
    ]
