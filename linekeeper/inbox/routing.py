"""Whose an event is: its reference, or its record keys, looked up among the connections."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import and_, bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.inbox.claim import Event
from linekeeper.store.engine import chunked
from linekeeper.store.keys import stored_key
from linekeeper.store.tables import Connection, Record
from linekeeper.store.types import is_id

_AT_ONCE = 2_000
MOST_STEPS = 5
"""So often a connection may have been replaced since the sender learned its name."""
MOST_OWNERS = 20
"""Connections read for one key that several of them have; where it is in more, the next poll reads
them all anyway."""


class EventTarget(NamedTuple):
    """A connection an event may be about."""

    id: str
    app: str
    makini_key: str
    makini_id: str | None
    setup: str
    health: str
    replaced_by: str | None


_COLUMNS = tuple(getattr(Connection, name) for name in EventTarget._fields)
_CALLED = select(*_COLUMNS).where(
    col(Connection.app) == bindparam("of_app"),
    or_(
        col(Connection.makini_key).in_(bindparam("refs", expanding=True)),
        col(Connection.makini_id).in_(bindparam("refs", expanding=True)),
        col(Connection.id).in_(bindparam("ids", expanding=True)),
    ),
)


async def connections_of(session: AsyncSession, events: Sequence[Event]) -> dict[str, EventTarget]:
    """The connections that events name, by the event's id; an event that names none we know isn't.

    What the body says counts; where nobody is known as that, or it says nothing, the URL does.
    """
    refs: defaultdict[str, set[str]] = defaultdict(set)
    for event in events:
        refs[event.app].update(_references(event))
    known = await _known_as(session, refs)
    by_event: dict[str, EventTarget] = {}
    for event in events:
        targets = (known.get((event.app, ref)) for ref in _references(event))
        if (target := next(filter(None, targets), None)) is not None:
            by_event[event.id] = target
    return by_event


def _references(event: Event) -> list[str]:
    return list(filter(None, (event.connection_ref, event.url_connection)))


async def _known_as(
    session: AsyncSession, refs: Mapping[str, set[str]]
) -> dict[tuple[str, str], EventTarget]:
    """Return connections by app and reference: Makini's key, Makini's id or our id, in this order.

    Where a login made a new connection, whoever goes on naming the one before means its successor.
    """
    by_reference: dict[tuple[str, str], EventTarget] = {}
    for app, wanted in refs.items():
        ordered = sorted(wanted)
        for batch in chunked(ordered, _AT_ONCE):
            ids = [ref for ref in batch if is_id(ref)]
            rows = await session.execute(_CALLED, {"of_app": app, "refs": batch, "ids": ids})
            targets = [EventTarget(*row) for row in rows]
            for name in ("id", "makini_id", "makini_key"):  # the last one counts
                for target in targets:
                    if getattr(target, name) in wanted:
                        by_reference[app, getattr(target, name)] = target
    return await _at_present(session, by_reference)


async def _at_present(
    session: AsyncSession, targets: dict[tuple[str, str], EventTarget]
) -> dict[tuple[str, str], EventTarget]:
    """The same, each connection that was replaced by its present successor."""
    for _ in range(MOST_STEPS):
        wanted = {
            target.replaced_by
            for target in targets.values()
            if target.replaced_by is not None and target.setup == "disconnected"
        }
        if not wanted:
            break
        rows = await session.execute(select(*_COLUMNS).where(col(Connection.id).in_(wanted)))
        heirs = {target.id: target for target in (EventTarget(*row) for row in rows)}
        targets = {
            name: heirs.get(target.replaced_by or "", target)
            if target.setup == "disconnected"
            else target
            for name, target in targets.items()
        }
    return targets


async def owners_of(
    session: AsyncSession, wanted: Mapping[tuple[str, str], Iterable[str]]
) -> dict[tuple[str, str, str], Sequence[EventTarget]]:
    """Connections whose records have these keys, by app, entity and key, from the record index.

    `wanted` are keys by app and entity. Keys are not unique among connections: one may have
    several owners, of which `MOST_OWNERS` and one more are returned.
    """
    targets: defaultdict[tuple[str, str, str], list[EventTarget]] = defaultdict(list)
    for (app, entity), keys in wanted.items():
        by_stored = {stored_key(key): key for key in keys}
        ordered = sorted(by_stored)
        for chunk in chunked(ordered, _AT_ONCE):
            numbered = (
                select(
                    col(Record.key).label("record_key"),
                    *_COLUMNS,
                    func.row_number()
                    .over(partition_by=col(Record.key), order_by=col(Connection.id))
                    .label("rank"),
                )
                .join(Connection, col(Connection.id) == col(Record.connection_id))
                .where(
                    and_(col(Record.entity) == entity, col(Connection.app) == app),
                    col(Record.key).in_(chunk),
                    col(Connection.setup) != "disconnected",
                )
                .subquery()
            )
            rows = await session.execute(
                select(numbered)
                .where(numbered.c.rank <= MOST_OWNERS + 1)
                .order_by(numbered.c.record_key, numbered.c.rank)
            )
            for key, *target, _ in rows:
                targets[app, entity, by_stored[key]].append(EventTarget(*target))
    return dict(targets)
