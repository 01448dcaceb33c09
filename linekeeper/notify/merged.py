"""Which incidents go on in another one: what their messages say in place of *resolved*."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, case, exists, func, or_, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from linekeeper.incidents import kinds as words
from linekeeper.incidents.announce import RANKED
from linekeeper.store.tables import (
    AppAbsence,
    AppState,
    Connection,
    Customer,
    Incident,
    IncidentConnection,
)
from linekeeper.store.types import Json

FLEET = "fleet"
"""The key of the page of all that is open."""


@dataclass(frozen=True, slots=True)
class Wider:
    """The incident in which another one goes on."""

    title: str
    name: str
    """What it is about; unlike a title it counts nobody, so that it stays true."""
    page: str
    """The key of the artifact that shows it."""


_NARROW, _WIDE = aliased(Incident), aliased(Incident)
_HERE, _THERE = aliased(IncidentConnection), aliased(IncidentConnection)
_OTHER, _CONTINUED = aliased(IncidentConnection), aliased(IncidentConnection)


def _stayed(member: Any) -> ColumnElement[bool]:
    """It was in the narrow incident to its end: who had left before says nothing of that end."""
    return or_(col(member.left_at).is_(None), col(member.left_at) >= col(_NARROW.resolved_at))


def _goes_on(member: Any, there: Any) -> ColumnElement[bool]:
    """The connection of `member` is `there` when the narrow incident is over."""
    return and_(
        col(there.connection_id) == col(member.connection_id),
        col(there.topic) == col(member.topic),
        col(there.incident_id) != col(_NARROW.id),
        col(there.joined_at) <= col(_NARROW.resolved_at),
        or_(col(there.left_at).is_(None), col(there.left_at) > col(_NARROW.resolved_at)),
    )


def _entity(incident: Any) -> Any:
    """The entity that an incident is about, if it is about one (`reconcile/entity_failures.py`)."""
    return type_coerce(col(incident.detail), Json)["entity"].as_string()


IS_UNWATCHED = or_(
    exists().where(
        col(AppState.app) == col(Incident.app),
        col(AppState.removed_at) <= col(Incident.resolved_at),
    ),
    exists().where(
        col(AppAbsence.app) == col(Incident.app),
        col(AppAbsence.since) <= col(Incident.resolved_at),
        col(AppAbsence.until) > col(Incident.resolved_at),
    ),
)
"""That an incident ended as its app was taken out of the settings, be it back in them or not."""


async def unwatched(session: AsyncSession, incident_ids: Sequence[str]) -> set[str]:
    """Those of `incident_ids` that ended so."""
    ids = col(Incident.id).in_(incident_ids)
    return set(await session.scalars(select(col(Incident.id)).where(ids, IS_UNWATCHED)))


_NEXT = aliased(IncidentConnection)
LEFT_FOR = case(
    (RANKED.c.left_at.is_(None), None),
    (col(Connection.setup) == "disconnected", "disconnected"),
    else_=select(col(_NEXT.kind))
    .where(
        col(_NEXT.connection_id) == RANKED.c.connection_id,
        col(_NEXT.topic) == RANKED.c.topic,
        col(_NEXT.incident_id) != RANKED.c.incident_id,
        col(_NEXT.joined_at) == RANKED.c.left_at,
    )
    .limit(1)
    .correlate(RANKED)
    .scalar_subquery(),
)
"""What a member left its incident for: the kind of the one it joined then, or that its connection
(joined in the statement) is in use no more; null where it recovered."""
_RECOVERED = exists().where(
    col(_OTHER.incident_id) == col(_NARROW.id),
    _stayed(_OTHER),
    ~exists().where(_goes_on(_OTHER, _CONTINUED)).correlate(_NARROW, _OTHER),
)
"""Somebody's trouble was over with it: then it is over, and does not go on elsewhere."""
_CUSTOMER = (
    select(col(Customer.name)).where(col(Customer.id) == col(_WIDE.customer_id)).scalar_subquery()
)
_MERGED = (
    select(
        col(_NARROW.id),
        col(_WIDE.topic),
        col(_WIDE.scope),
        col(_WIDE.app),
        col(_WIDE.provider),
        col(_WIDE.title),
        _CUSTOMER.label("customer"),
        func.min(col(Connection.slug)).label("slug"),
    )
    .join(_HERE, and_(col(_HERE.incident_id) == col(_NARROW.id), _stayed(_HERE)))
    .join(_THERE, _goes_on(_HERE, _THERE))
    .join(_WIDE, col(_WIDE.id) == col(_THERE.incident_id))
    .join(Connection, col(Connection.id) == col(_THERE.connection_id))
    .where(
        col(_NARROW.id).in_(bindparam("ids", expanding=True)),
        col(_NARROW.resolved_at).is_not(None),
        # Of another topic a connection may be in several incidents that have nothing in common.
        or_(
            col(_NARROW.topic) == "health",
            and_(_entity(_NARROW).is_(None), col(_WIDE.scope) != "connection"),
            _entity(_NARROW) == _entity(_WIDE),
            _entity(_NARROW) == words.ALL_ENTITIES,
            _entity(_WIDE) == words.ALL_ENTITIES,
        ),
        ~_RECOVERED,
    )
    .group_by(col(_NARROW.id), col(_WIDE.id))
    .order_by(col(_NARROW.id), col(_WIDE.id))
)


async def merged_into(session: AsyncSession, incident_ids: Sequence[str]) -> dict[str, Wider]:
    """The incidents in which these go on: a connection was there when they resolved."""
    if not incident_ids:
        return {}
    rows = await session.execute(_MERGED, {"ids": list(incident_ids)})
    return {row.id: _wider(row) for row in rows}


def _wider(row: Any) -> Wider:
    if row.scope == "connection":
        return Wider(row.title, row.title, f"connection-{row.slug}")
    name = row.title
    if row.topic == "health":  # that title counts connections
        name = words.root_cause(row.scope, row.app, row.provider, row.customer)
    return Wider(row.title, name, FLEET)
