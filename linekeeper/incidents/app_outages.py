"""When a whole app was unreachable: only then does its trouble explain what else is wrong with it.

A list that can't be read or looks truncated explains nothing about any connection, and an app's
incident of a few members explains nothing about the others.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import bindparam, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.setup import ESTABLISHED
from linekeeper.notify.decision import FOREVER, Silence
from linekeeper.store.tables import Connection, Incident, IncidentConnection
from linekeeper.store.types import UtcDateTime

APP_GRACE = timedelta(minutes=15)
"""After an app's trouble its connections have so long to be well again."""
WHOLE_SHARE = 0.5
"""An app in which this share of the connections is unreachable is unreachable as a whole."""

_OF_APPS = (
    select(Incident)
    .where(
        col(Incident.scope) == "app",
        col(Incident.kind) == "unreachable",
        or_(
            col(Incident.resolved_at).is_(None),
            col(Incident.resolved_at) > bindparam("since", type_=UtcDateTime),
        ),
    )
    .order_by(col(Incident.opened_at), col(Incident.id))
)
_SIZES = (
    select(col(Connection.app), func.count())
    .where(col(Connection.setup).in_(ESTABLISHED))
    .group_by(col(Connection.app))
)
_EVERY_LEAVE = func.count(col(IncidentConnection.left_at))
_LEFT = (
    select(
        col(IncidentConnection.incident_id),
        case((func.count() == _EVERY_LEAVE, func.max(col(IncidentConnection.left_at)))),
    )
    .where(col(IncidentConnection.incident_id).in_(bindparam("ids", expanding=True)))
    .group_by(col(IncidentConnection.incident_id), col(IncidentConnection.connection_id))
)
"""A row a connection: when it last left the incident, nothing while it is a member."""


async def app_outages(
    session: AsyncSession, *, now: datetime, back: timedelta
) -> Mapping[str, list[tuple[str, Silence]]]:
    """By app, the times in which it was unreachable as a whole, each with its incident.

    Those that ended longer than `back` ago are left out.
    """
    incidents = (await session.scalars(_OF_APPS, {"since": now - back})).all()
    if not incidents:
        return {}
    sizes = {row[0]: row[1] for row in await session.execute(_SIZES)}
    left: dict[str, list[datetime | None]] = {}
    for incident_id, at in await session.execute(_LEFT, {"ids": [one.id for one in incidents]}):
        left.setdefault(incident_id, []).append(at)
    outages: dict[str, list[tuple[str, Silence]]] = {}
    for incident in incidents:
        until = whole_until(left.get(incident.id, ()), sizes.get(incident.app, 0))
        if until is None:
            continue
        end = until + APP_GRACE if until < FOREVER else FOREVER
        why = f"follows from the trouble of app {incident.app} as a whole"
        outages.setdefault(incident.app, []).append(
            (incident.id, Silence(incident.since, end, why))
        )
    return outages


def whole_until(left: Sequence[datetime | None], connections: int) -> datetime | None:
    """Until when an incident's members were `WHOLE_SHARE` of an app's connections. Pure.

    `left` has, for each that is or was a member, when it left (None: it is one still). Returns
    `FOREVER` while they are so many, None if they never were.
    """
    needed = max(1, -int(-connections * WHOLE_SHARE // 1))
    if len(left) < needed:
        return None
    return sorted(FOREVER if at is None else at for at in left)[len(left) - needed]
