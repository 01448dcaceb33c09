"""What is recorded without notifying anybody: windows, mutes, what an app's trouble explains.

Only an app that was unreachable as a whole explains what else is wrong with it. A list that can't
be read or looks truncated explains nothing about any connection, and an app's incident of a few
members explains nothing about the others.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, bindparam, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.setup import ESTABLISHED, MADE_AT
from linekeeper.incidents.announce import OF_ITS_ROUND
from linekeeper.incidents.one_cause import APP_GRACE, EXPLAINED, FOREVER, Suppression, explained
from linekeeper.incidents.standstill import FINDERS, looked_at_anew
from linekeeper.store.engine import chunked
from linekeeper.store.tables import (
    Connection,
    Implementation,
    ImplementationSystem,
    Incident,
    IncidentConnection,
)
from linekeeper.store.tables import Silence as SilenceRow
from linekeeper.store.tables.alerts import PAUSE_WINDOW
from linekeeper.store.types import UtcDateTime, table_of

_IS_SYSTEM = col(ImplementationSystem.connection_id) == col(Connection.id)
_CAME = and_(
    col(Implementation.id) == col(ImplementationSystem.implementation_id),
    col(Implementation.started_at) <= MADE_AT,
    col(Implementation.status) != "abandoned",
)
_PROJECT = (col(Implementation.title), col(Implementation.started_at), col(Implementation.live_at))
_CAME_WITH = (
    select(col(Connection.id), *_PROJECT)
    .join(ImplementationSystem, _IS_SYSTEM)
    .join(Implementation, _CAME)
    .where(col(Connection.id).in_(bindparam("ids", expanding=True)))
)


@dataclass(frozen=True, slots=True)
class Underway:
    """The time (UTC) in which a connection was being implemented, and as part of what."""

    title: str
    since: datetime
    live_at: datetime | None
    """Its go-live; None: still ahead."""


async def implemented(session: AsyncSession, connections: Sequence[str]) -> dict[str, Underway]:
    """Those of `connections` that came with an implementation, and with which.

    Alerts of them wait for the go-live. What was in use before it was started stays watched as it
    was, and one that was abandoned counts no more.
    """
    underway: dict[str, Underway] = {}
    for ids in chunked(connections, 5_000):
        rows = await session.execute(_CAME_WITH, {"ids": ids})
        underway |= {row[0]: Underway(row[1], row[2], row[3]) for row in rows}
    return underway


SINCE = func.coalesce(col(Incident.reopened_at), col(Incident.opened_at)).label("since")
"""`Incident.since` as a column."""
IncidentRow = Incident | Row[Any]
"""An incident, or what was read of it."""


_OURS = frozenset({"canary_lost", "webhooks_behind"})
"""Kinds that are about what Linekeeper goes on with in a pause; `house` is the scope of others."""
FORGOTTEN_AFTER = timedelta(days=7)
"""What was resolved longer ago and never notified will not be."""
_COVERED = ("unreachable", "unknown", "degraded", "webhooks_silent", "webhooks_behind")
"""Kinds that follow from an app that is unreachable as a whole."""
_AT_ONCE = 5_000
WHOLE_SHARE = 0.5
"""An app in which this share of the connections is unreachable is unreachable as a whole."""

_OF_APPS = (
    select(col(Incident.id), col(Incident.app), SINCE)
    .where(
        col(Incident.scope) == "app",
        col(Incident.customer_id).is_(None),
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
_LAST_LEFT = (
    select(
        col(IncidentConnection.incident_id),
        case((func.count() == _EVERY_LEAVE, func.max(col(IncidentConnection.left_at)))).label("at"),
    )
    .where(col(IncidentConnection.incident_id).in_(bindparam("ids", expanding=True)))
    .group_by(col(IncidentConnection.incident_id), col(IncidentConnection.connection_id))
    .subquery()
)
"""A row a connection: when it last left the incident, nothing while it is a member."""
_LEFT = select(_LAST_LEFT, func.count()).group_by(_LAST_LEFT.c.incident_id, _LAST_LEFT.c.at)
"""How many left an incident at the same moment: most of an app do in few."""

_MEMBERS = (
    select(
        col(IncidentConnection.incident_id),
        col(Connection.id),
        col(Connection.customer_id),
        col(Connection.provider),
        *_PROJECT,
    )
    .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
    .join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
    .outerjoin(ImplementationSystem, _IS_SYSTEM)
    .outerjoin(Implementation, _CAME)
    .where(col(IncidentConnection.incident_id).in_(bindparam("ids", expanding=True)), OF_ITS_ROUND)
)
_SINCE = bindparam("since", type_=UtcDateTime)
_SILENCE = table_of(SilenceRow)
_WINDOWS = select(_SILENCE).where(
    _SILENCE.c.ends_at > _SINCE,
    _SILENCE.c.starts_at <= bindparam("until", type_=UtcDateTime),
)
_Who = tuple[str, str | None, str | None]
"""A connection, its customer, its provider."""


async def silences(
    session: AsyncSession,
    incidents: Sequence[IncidentRow],
    now: datetime,
    *,
    back: timedelta = FORGOTTEN_AFTER,
) -> dict[str, list[Suppression]]:
    """Return by incident the times in which nobody is to be notified of it.

    Those that begin later are left out, and those that ended longer than `back` ago.
    """
    members, underway = await _members(session, [incident.id for incident in incidents])
    ours = {each.id for each in incidents if each.scope == "house" or each.kind in _OURS}
    windows = await _of_windows(session, members, ours, now, back=back)
    ahead = _before_go_live(
        {incident.id: members[incident.id] for incident in incidents if incident.scope != "app"},
        underway,
    )
    covers: Mapping[str, list[tuple[str, Suppression]]] = {}
    if began := [incident.since for incident in incidents if incident.kind in _COVERED]:
        # What was over before the first of them began explains none of them.
        covers = await app_outages(session, now=now, back=min(back, now - min(began) + APP_GRACE))
    anew: Mapping[str, Suppression] = {}
    following: Mapping[str, list[Suppression]] = {}
    if not FINDERS.keys().isdisjoint(incident.topic for incident in incidents):
        anew = await looked_at_anew(session, incidents, now=now)
    if not EXPLAINED.isdisjoint(incident.kind for incident in incidents):
        following = await explained(session, now=now, back=back)
    return {
        incident.id: [
            *windows.get(incident.id, ()),
            *ahead.get(incident.id, ()),
            *_of_app(incident, covers),
            *following.get(incident.id, ()),
            *([anew[incident.id]] if incident.id in anew else ()),
            *_muted(incident),
        ]
        for incident in incidents
    }


async def suppressed(
    session: AsyncSession, incidents: Sequence[IncidentRow], now: datetime
) -> dict[str, str]:
    """Those of `incidents` of which nobody is to be notified at `now`, each with why."""
    silences_of = await silences(session, incidents, now, back=APP_GRACE)
    return {
        identifier: covering[0].why
        for identifier, spans in silences_of.items()
        if (
            covering := [silence for silence in spans if silence.starts_at <= now < silence.ends_at]
        )
    }


async def app_outages(
    session: AsyncSession, *, now: datetime, back: timedelta
) -> Mapping[str, list[tuple[str, Suppression]]]:
    """Return by app the times in which it was unreachable as a whole, each with its incident.

    Those that ended longer than `back` ago are left out.
    """
    incidents = (await session.execute(_OF_APPS, {"since": now - back})).all()
    if not incidents:
        return {}
    sizes = {row[0]: row[1] for row in await session.execute(_SIZES)}
    left: dict[str, dict[datetime | None, int]] = {}
    for incident_id, at, number in await session.execute(
        _LEFT, {"ids": [incident.id for incident in incidents]}
    ):
        left.setdefault(incident_id, {})[at] = number
    outages: dict[str, list[tuple[str, Suppression]]] = {}
    for incident in incidents:
        until = whole_until(left.get(incident.id, {}), sizes.get(incident.app, 0))
        if until is None:
            continue
        end = until + APP_GRACE if until < FOREVER else FOREVER
        why = f"follows from the trouble of app {incident.app} as a whole"
        outages.setdefault(incident.app, []).append(
            (incident.id, Suppression(incident.since, end, why))
        )
    return outages


def whole_until(left: Mapping[datetime | None, int], connections: int) -> datetime | None:
    """Until when an incident's members were `WHOLE_SHARE` of an app's connections. Pure.

    `left` has how many left it at which moment (None: those who are members still). Returns
    `FOREVER` while they are so many, None if they never were.
    """
    needed = max(1, -int(-connections * WHOLE_SHARE // 1))
    times = {FOREVER if at is None else at: number for at, number in left.items()}
    for at in sorted(times, reverse=True):
        needed -= times[at]
        if needed <= 0:
            return at
    return None


async def _of_windows(
    session: AsyncSession,
    members: Mapping[str, set[_Who]],
    ours: Collection[str],
    now: datetime,
    *,
    back: timedelta,
) -> dict[str, list[Suppression]]:
    """The windows that cover every connection of an incident.

    A pause covers none of `ours`: a part of Linekeeper that breaks is seen by nobody else, and
    receiving, applying and the renewal of tokens are to go on.
    """
    windows = await windows_at(session, now, back) if members else []
    return {
        incident_id: covering
        for incident_id, some_members in members.items()
        if (
            covering := [
                window
                for row, window in windows
                if (row.scope == "all" and not (row.kind == PAUSE_WINDOW and incident_id in ours))
                or (some_members and all(covers_member(row, member) for member in some_members))
            ]
        )
    }


def _before_go_live(
    members: Mapping[str, set[_Who]], underway: Mapping[str, Underway]
) -> dict[str, list[Suppression]]:
    """Return by incident the time in which all its connections were being implemented."""
    silences_of: dict[str, list[Suppression]] = {}
    for incident_id, connection_ids in members.items():
        own = [underway.get(identifier) for identifier, *_ in connection_ids]
        came_with = [project for project in own if project is not None]
        if not came_with or len(came_with) < len(own):
            continue
        since = max(project.since for project in came_with)
        until = min(project.live_at or FOREVER for project in came_with)
        if since < until:
            why = f"{came_with[0].title} is not live yet: its implementation says it"
            silences_of[incident_id] = [Suppression(since, until, why)]
    return silences_of


async def _members(
    session: AsyncSession, ids: Sequence[str]
) -> tuple[dict[str, set[_Who]], dict[str, Underway]]:
    """Who is or was in each of `ids` since it was last opened, and with what they came
    (`implemented`)."""
    members: dict[str, set[_Who]] = {incident_id: set() for incident_id in ids}
    underway: dict[str, Underway] = {}
    for batch in chunked(ids, _AT_ONCE):
        rows = await session.execute(_MEMBERS, {"ids": batch})
        for incident_id, identifier, customer_id, provider, title, since, live_at in rows:
            members[incident_id].add((identifier, customer_id, provider))
            if since is not None:
                underway[identifier] = Underway(title, since, live_at)
    return members, underway


async def windows_at(
    session: AsyncSession, now: datetime, back: timedelta
) -> list[tuple[Row[Any], Suppression]]:
    """The windows that have begun, but for those that ended longer than `back` ago."""
    rows = await session.execute(_WINDOWS, {"since": now - back, "until": now})
    return [(row, _window(row)) for row in rows if _end(row) > row.starts_at]


def covers_member(row: Row[Any], member: _Who) -> bool:
    """Whether a window is one of a connection, given with its customer and provider. Pure."""
    connection_id, customer_id, provider = member
    if row.scope == "all":
        return True
    named = {"connection": connection_id, "customer": customer_id, "provider": provider}
    return bool(row.subject == named.get(row.scope))


def _window(row: Row[Any]) -> Suppression:
    reason = f": {row.reason}" if row.reason else ""
    return Suppression(row.starts_at, _end(row), f"{row.kind} of {row.label}{reason}")


def _end(row: Row[Any]) -> datetime:
    end: datetime = min(row.ends_at, row.ended_at or row.ends_at)
    return end


def _of_app(
    incident: IncidentRow, covers: Mapping[str, list[tuple[str, Suppression]]]
) -> list[Suppression]:
    """An app unreachable as a whole silences what follows from it and opened while it lasted."""
    if incident.kind not in _COVERED:
        return []
    return [
        silence
        for identifier, silence in covers.get(incident.app, ())
        if identifier != incident.id and silence.starts_at <= incident.since < silence.ends_at
    ]


def _muted(incident: IncidentRow) -> list[Suppression]:
    since, until = incident.muted_at, incident.muted_until
    return [Suppression(since, until, "muted")] if since and until and since < until else []
