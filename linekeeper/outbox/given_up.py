"""Forwards that were given up because the product took nothing for days: handed on again, or ended
where what they are about is no longer kept."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlmodel import col

from linekeeper.outbox.about import is_about_connection
from linekeeper.outbox.forward import CHANNEL
from linekeeper.outbox.forward_messages import read_messages
from linekeeper.outbox.queue import OUTBOX
from linekeeper.outbox.sender import OutboxRow
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.lists import count_rows, update_many
from linekeeper.store.tables import Outbox

UNKEPT = "the event it is about is no longer kept"
SHOWN = 50
_IN_A_TRANSACTION = 500


@dataclass(frozen=True, slots=True)
class ForwardSelection:
    """Which of them: written since then (UTC), of one connection or all."""

    since: datetime | None = None
    connection_id: str | None = None
    limit: int = 1_000


@dataclass(frozen=True, slots=True)
class GivenUpForward:
    """One of them, to look at."""

    about: str
    """The id of the event or change that it hands on."""
    written_at: datetime
    error: str | None


@dataclass(frozen=True, slots=True)
class GivenUpForwards:
    """What there is to hand on again."""

    count: int
    forwards: Sequence[GivenUpForward]
    """The oldest of them."""


async def given_up_forwards(store: Store, selection: ForwardSelection) -> GivenUpForwards:
    """What `hand_on_again` would do now; nothing is written."""
    which = _given_up(selection)
    async with store.read() as session:
        count = await count_rows(session, Outbox, *which)
        rows = await session.execute(
            select(col(Outbox.payload), col(Outbox.created_at), col(Outbox.error))
            .where(*which)
            .order_by(col(Outbox.seq))
            .limit(min(selection.limit, SHOWN))
        )
        forwards = [
            GivenUpForward(payload.get("change") or payload["event"], at, error)
            for payload, at, error in rows
        ]
    return GivenUpForwards(count or 0, forwards)


async def hand_on_again(
    store: Store, selection: ForwardSelection, *, now: datetime
) -> AsyncIterator[int]:
    """Have them delivered, the oldest first, under their ids, tried for as long as the first time.

    Yields how many after each transaction; it may be broken off between two of them. `now` is when
    the run began: tried again with it, the run first yields what it has done already.
    """
    handed_on = select(func.count()).where(
        col(Outbox.channel) == CHANNEL, col(Outbox.due_at) == now
    )
    async with store.read() as session:
        done = await session.scalar(handed_on) or 0
    if done:
        yield done
    left = selection.limit - done
    while left > 0:
        ids = (
            select(col(Outbox.id))
            .where(*_given_up(selection), col(Outbox.settled_at) < now)  # not what ends so again
            .order_by(col(Outbox.seq))
            .limit(min(left, _IN_A_TRANSACTION))
        )
        again: dict[str, Any] = {
            "status": "pending",
            "attempts": 0,
            "due_at": now,
            "next_attempt_at": now,
            **dict.fromkeys(("error", "refusal", "retry_at", "counts_from", "settled_at")),
        }
        async with store.write() as session:
            rows = await session.scalars(
                update_many(Outbox)
                .where(col(Outbox.id).in_(ids.scalar_subquery()))
                .values(again)
                .returning(col(Outbox.id))
            )
            count = len(rows.all())
        if not count:
            return
        left -= count
        yield count


async def end_lost(rt: Runtime, *, now: datetime) -> int:
    """End those that can't be handed on again, because the event they are about is gone, or its
    body where that is all there is to say; how many. They are `skipped`, which no other forward is.
    """
    apps = (await rt.configuration()).apps.values()
    to = {name: each for app in apps for name, each in app.destinations().items()}
    last, count = str(UUID(int=0)), 0
    while True:
        statement = _DEAD.where(OUTBOX.c.seq > last).limit(_IN_A_TRANSACTION)
        async with rt.store.read() as session:
            dead = (await session.execute(statement)).mappings().all()
        if not dead:
            return count
        last = dead[-1]["seq"]
        _, lost = await read_messages(rt.store, [OutboxRow.of(row) for row in dead], to)
        if lost:
            which = OUTBOX.c.id.in_(lost) & (OUTBOX.c.status == "dead")
            ended = {"status": "skipped", "settled_at": now, "error": UNKEPT}
            async with rt.store.write() as session:
                rows = await session.execute(
                    update(OUTBOX).where(which).values(ended).returning(OUTBOX.c.id)
                )
                count += len(rows.all())


_DEAD = (
    select(OUTBOX.c.seq, *(OUTBOX.c[name] for name in OutboxRow.__slots__))
    .where(OUTBOX.c.channel == CHANNEL, OUTBOX.c.status == "dead")
    .order_by(OUTBOX.c.seq)
)


def _given_up(selection: ForwardSelection) -> list[ColumnElement[bool]]:
    which = [col(Outbox.channel) == CHANNEL, col(Outbox.status) == "dead"]
    if selection.since is not None:
        which.append(col(Outbox.created_at) >= selection.since)
    if selection.connection_id is not None:
        which.append(is_about_connection(selection.connection_id))
    return which
