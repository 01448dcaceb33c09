"""Events nobody's connection was known for: looked at again once it may be."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import bindparam, literal_column, select
from sqlmodel import col

from linekeeper.exact import read
from linekeeper.inbox.claim import Event, opened
from linekeeper.inbox.identify import record_keys
from linekeeper.inbox.replay import not_replayed
from linekeeper.inbox.routing import connections_of, owners_of
from linekeeper.store import Store
from linekeeper.store.engine import chunked
from linekeeper.store.lists import update_many
from linekeeper.store.tables import WebhookEvent
from linekeeper.store.trouble import isolate
from linekeeper.store.types import UtcDateTime, table_of

log = logging.getLogger(__name__)

LOOKED_AT_FOR = timedelta(days=1)
_AT_ONCE = 2_000

_EVENT = table_of(WebhookEvent)
_UNROUTED = (
    select(*(_EVENT.c[name] for name in Event._fields))
    .where(
        _EVENT.c.status == literal_column("'unrouted'"),
        _EVENT.c.processed_at >= bindparam("since", type_=UtcDateTime),
        _EVENT.c.body.is_not(None),
        _EVENT.c.id > bindparam("last"),
        not_replayed(),
    )
    .order_by(_EVENT.c.id)
    .limit(_AT_ONCE)
)


async def route_again(store: Store, *, now: datetime) -> int:
    """Put back what is unrouted since a day and has a known connection by now; returns how many.

    A new connection's first events may come before the sweep lists it, and a new record's before
    the poll that brings it. What was replayed is its replay's to find.
    """
    count, last = 0, str(UUID(int=0))
    while True:
        async with store.read() as session:
            rows = await session.execute(_UNROUTED, {"since": now - LOOKED_AT_FOR, "last": last})
            events = [opened(store, Event(*row)) for row in rows]
        if not events:
            return count
        count += await _put_back(store, events, now)
        last = events[-1].id


async def _put_back(store: Store, events: Sequence[Event], now: datetime) -> int:
    """Put back those of `events` whose connection is known by now; returns how many."""

    async def find(events_to_find: Sequence[Event]) -> list[str]:
        return await _routed(store, events_to_find)

    routes, failed = await isolate(events, find)
    for event, error in failed:
        log.warning("event %s can't be routed: %s", event.id, type(error).__name__)
    routed = [event_id for part in routes for event_id in part]
    for chunk in chunked(routed, 500):
        async with store.write() as session:
            await session.execute(
                update_many(WebhookEvent)
                .where(
                    col(WebhookEvent.id).in_(chunk),
                    col(WebhookEvent.status) == "unrouted",
                )
                .values(
                    status="pending",
                    attempts=1,  # it has been looked at: no consumer is behind with it
                    error=None,  # why it was unrouted is over: it is not failing
                    next_attempt_at=now,
                    processed_at=None,
                )
            )
    return len(routed)


async def _routed(store: Store, events: Sequence[Event]) -> list[str]:
    """The ids of those of `events` whose connection is known by now."""
    keys = {
        event.id: record_keys(read(event.body or b""))
        for event in events
        if event.connection_ref is None and event.entity is not None
    }
    wanted: dict[tuple[str, str], set[str]] = {}
    for event in events:
        if event.entity is not None:
            wanted.setdefault((event.app, event.entity), set()).update(keys.get(event.id, ()))
    async with store.read() as session:
        named = await connections_of(session, events)
        owned = await owners_of(session, wanted)
    return [
        event.id
        for event in events
        if event.id in named
        or any((event.app, event.entity or "", key) in owned for key in keys.get(event.id, ()))
    ]
