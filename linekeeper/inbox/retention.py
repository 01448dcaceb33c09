"""How long webhooks are kept: payloads first, ids much longer (INTERFACE, MISSION W4)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Delete, Update, delete, select, update
from sqlmodel import SQLModel, col

from linekeeper.inbox.claim import hour_of
from linekeeper.store import Store
from linekeeper.store.lists import count_rows, delete_many
from linekeeper.store.retention import note_removed
from linekeeper.store.tables import (
    DeliveryCount,
    ReceiverHeartbeat,
    WebhookEvent,
    WebhookHour,
)
from linekeeper.store.types import id_floor, table_of

HABIT_DAYS = 14
"""How many days of hourly counts are looked at, to know what is usual."""
IDS_AT_LEAST = timedelta(days=30)
"""A sender's id is known at least so long, so that a repeat is one."""
PAYLOADS_AT_LEAST = timedelta(days=4)
"""Longer than a message to the product is tried: it quotes the payload."""
BEATS_KEPT = timedelta(days=60)
_AT_ONCE = 2_000

_EVENT = table_of(WebhookEvent)


@dataclass(frozen=True, slots=True)
class PrunedPayloads:
    """How many payloads were emptied and events removed, or would be."""

    payloads: int
    events: int


async def prune_inbox(
    store: Store,
    *,
    payloads_before: datetime,
    events_before: datetime,
    now: datetime,
    dry_run: bool = False,
) -> PrunedPayloads:
    """Empty payloads of events received before the one time, remove those before the other.

    Ids stay for `IDS_AT_LEAST`, payloads for `PAYLOADS_AT_LEAST`, whatever is asked for; what is
    pending stays, with its payload.
    With `dry_run` it only counts. Short transactions, so that nobody waits long for the lock.
    """
    payloads_before = min(payloads_before, now - PAYLOADS_AT_LEAST)
    events_before = min(events_before, now - IDS_AT_LEAST)
    old = [_EVENT.c.id < id_floor(payloads_before), _EVENT.c.status != "pending"]
    with_body = [*old, _EVENT.c.body.is_not(None)]
    gone = [_EVENT.c.id < id_floor(events_before), _EVENT.c.status != "pending"]
    if dry_run:
        async with store.read() as session:
            emptied = await count_rows(session, _EVENT, *with_body)
            return PrunedPayloads(emptied, await count_rows(session, _EVENT, *gone))
    emptied = await _repeat(
        store,
        lambda batch: (
            update(_EVENT)
            .where(_EVENT.c.id.in_(batch))
            .values(body=None, headers=None, body_keys=None)
        ),
        with_body,
    )
    await note_removed(store, {"bodies": payloads_before}, now=now)
    removed = await _repeat(store, lambda batch: delete(_EVENT).where(_EVENT.c.id.in_(batch)), gone)
    await _prune_counts(store, now)
    return PrunedPayloads(emptied, removed)


async def _repeat(store: Store, change: Callable[[Any], Update | Delete], which: list[Any]) -> int:
    """Change the rows that are so, the oldest first; returns how many.

    They are looked for outside of the transactions that write, each time from where it stopped:
    what was emptied long ago is passed once, while nobody waits for the lock.
    """
    done, last = 0, str(UUID(int=0))
    while True:
        wanted = select(_EVENT.c.id).where(*which, _EVENT.c.id > last)
        async with store.read() as session:
            rows = await session.scalars(wanted.order_by(_EVENT.c.id).limit(_AT_ONCE))
            ids = list(rows)
        if ids:
            last = ids[-1]
            async with store.write() as session:
                changing = change(ids).where(*which).returning(_EVENT.c.id)
                done += len((await session.execute(changing)).all())
        if len(ids) < _AT_ONCE:
            return done


async def _prune_counts(store: Store, now: datetime) -> None:
    old: list[tuple[type[SQLModel], Any]] = [
        (DeliveryCount, col(DeliveryCount.minute) < now - IDS_AT_LEAST),
        (WebhookHour, col(WebhookHour.hour) < hour_of(now - timedelta(days=HABIT_DAYS + 1))),
        (ReceiverHeartbeat, col(ReceiverHeartbeat.at) < now - BEATS_KEPT),
    ]
    for table, which in old:
        async with store.write() as session:
            await session.execute(delete_many(table).where(which))
