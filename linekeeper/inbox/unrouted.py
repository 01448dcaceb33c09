"""Events nobody's connection was known for: looked at again once it may be."""

from datetime import datetime, timedelta

from sqlalchemy import literal_column, select, update
from sqlmodel import col

from linekeeper.inbox.claim import Event
from linekeeper.inbox.identify import read, record_keys
from linekeeper.inbox.routing import connections_of, owners_of
from linekeeper.store import Store
from linekeeper.store.core import table_of
from linekeeper.store.tables import WebhookEvent

LOOKED_AT_FOR = timedelta(days=1)
MOST = 5_000

_EVENT = table_of(WebhookEvent)


async def route_again(store: Store, *, now: datetime) -> int:
    """Put back what is unrouted since a day and has a known connection by now; returns how many.

    A new connection's first events may come before the sweep lists it.
    """
    async with store.read() as session:
        rows = await session.execute(
            select(*(_EVENT.c[name] for name in Event._fields))
            .where(
                _EVENT.c.status == literal_column("'unrouted'"),
                _EVENT.c.processed_at >= now - LOOKED_AT_FOR,
                _EVENT.c.body.is_not(None),
            )
            .order_by(_EVENT.c.processed_at)
            .limit(MOST)
        )
        events = [Event(*row) for row in rows]
        named = await connections_of(session, events)
        keys = {
            event.id: record_keys(read(event.body or b""))
            for event in events
            if event.connection_ref is None and event.entity is not None
        }
        wanted: dict[tuple[str, str], set[str]] = {}
        for event in events:
            if event.entity is not None:
                wanted.setdefault((event.app, event.entity), set()).update(keys.get(event.id, ()))
        owned = await owners_of(session, wanted)
    routed = [
        event.id
        for event in events
        if event.id in named
        or any((event.app, event.entity or "", key) in owned for key in keys.get(event.id, ()))
    ]
    for start in range(0, len(routed), 500):
        async with store.write() as session:
            await session.execute(
                update(WebhookEvent)
                .where(
                    col(WebhookEvent.id).in_(routed[start : start + 500]),
                    col(WebhookEvent.status) == "unrouted",
                )
                .values(status="pending", attempts=0, next_attempt_at=now, processed_at=None)
                .execution_options(synchronize_session=False)
            )
    return len(routed)
