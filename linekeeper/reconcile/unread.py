"""Which connections a run could not read, and of which of them people know already.

People know of what an open incident says that was there before the run began: of the entity, its
connection, or the whole app, where it is the app's own credentials that fail. That a read has
failed before is not enough: nobody need have been notified of it, nor that run have been red. That
there is no token is never an incident: every page and `doctor` say so.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select
from sqlmodel import col

from linekeeper.customers.setup import ESTABLISHED
from linekeeper.health.evidence import Health
from linekeeper.incidents.kinds import ALL_ENTITIES
from linekeeper.incidents.suppressed import SINCE
from linekeeper.makini import may_call_data
from linekeeper.reconcile.due import PollOrder
from linekeeper.reconcile.entity_failures import UNREADABLE
from linekeeper.reconcile.service import Failure
from linekeeper.runtime import Runtime
from linekeeper.store.connection_settings import configured, load_settings
from linekeeper.store.engine import chunked
from linekeeper.store.tables import Connection, Incident, IncidentConnection, Watermark
from linekeeper.store.types import UtcDateTime

_OF_WHOLE = (*(health.value for health in Health if health != Health.degraded), "disconnected")
"""Kinds of incidents of connections that can't be read at all: a degraded one answers."""
_SAID = (
    select(
        col(IncidentConnection.connection_id), col(IncidentConnection.kind), col(Incident.detail)
    )
    .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
    .where(
        col(IncidentConnection.connection_id).in_(bindparam("ids", expanding=True)),
        col(IncidentConnection.left_at).is_(None),
        col(IncidentConnection.joined_at) < bindparam("started", type_=UtcDateTime),
        col(IncidentConnection.kind).in_((*UNREADABLE, *_OF_WHOLE)),
        col(Incident.resolved_at).is_(None),
    )
)
_UNLISTED = select(col(Incident.app)).where(
    col(Incident.kind) == "list_failed",
    bindparam("started", type_=UtcDateTime) > SINCE,
    col(Incident.resolved_at).is_(None),
)
_WAITING = (
    select(col(Connection.id), col(Connection.app), col(Connection.health), col(Watermark.entity))
    .join(Watermark, col(Watermark.connection_id) == col(Connection.id))
    .where(
        col(Connection.setup).in_(ESTABLISHED),
        col(Watermark.offered),
        col(Watermark.retry_at) > bindparam("started", type_=UtcDateTime),
    )
)


@dataclass(frozen=True, slots=True)
class Unread:
    """What a run left unread though it was to be read."""

    news: Sequence[Failure]
    """The first failure of each connection of which nobody knew."""
    known: int
    """How many other connections have an entity that can't be read, or waits after a failure."""


async def find_unread(rt: Runtime, order: PollOrder, failures: Sequence[Failure]) -> Unread:
    """Divide what a run did not read by whether an incident had said so before it."""
    said = await _said(rt, order, {failure.connection_id for failure in failures})
    async with rt.store.read() as session:
        unlisted = set(await session.scalars(_UNLISTED, {"started": order.started}))
    news: dict[str, Failure] = {}
    for failure in failures:
        of_app = failure.is_of_app and failure.app in unlisted
        if failure.has_no_token or of_app:
            continue
        if not said[failure.connection_id] & {failure.entity, ALL_ENTITIES}:
            news.setdefault(failure.connection_id, failure)
    unread = {failure.connection_id for failure in failures} | await _waiting(rt, order)
    return Unread(list(news.values()), len(unread - news.keys()))


async def _said(rt: Runtime, order: PollOrder, ids: set[str]) -> defaultdict[str, set[str]]:
    """By connection the entities of which an incident says that they can't be read."""
    said: defaultdict[str, set[str]] = defaultdict(set)
    async with rt.store.read() as session:
        for chunk in chunked(sorted(ids), 2_000):
            rows = await session.execute(_SAID, {"ids": chunk, "started": order.started})
            for connection_id, kind, detail in rows:
                of_entity = kind in UNREADABLE
                said[connection_id].add(detail["entity"] if of_entity else ALL_ENTITIES)
    return said


async def _waiting(rt: Runtime, order: PollOrder) -> set[str]:
    """The connections of which an entity was left alone, because it waits after a failure."""
    if order.everything:
        return set()
    apps = (await rt.configuration()).apps
    async with rt.store.read() as session:
        rows = (await session.execute(_WAITING, {"started": order.started})).all()
        settings = await load_settings(session, {row.id for row in rows})
    return {
        row.id
        for row in rows
        if row.app in apps
        and may_call_data(row.health)
        and row.entity in configured(apps[row.app], settings.get(row.id)).entities
        and (order.entities is None or row.entity in order.entities)
    }
