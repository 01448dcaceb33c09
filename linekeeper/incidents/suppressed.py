"""What is observed and recorded, not told: windows, mutes, what follows from an app's trouble."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.underway import implemented
from linekeeper.incidents.app_outages import APP_GRACE, app_outages
from linekeeper.notify.decision import FOREVER, Silence
from linekeeper.store.engine import Store
from linekeeper.store.tables import Connection, Incident, IncidentConnection
from linekeeper.store.tables import Silence as SilenceRow
from linekeeper.store.types import UtcDateTime

FORGOTTEN_AFTER = timedelta(days=7)
"""What was resolved longer ago and never told will not be."""
_COVERED = ("unreachable", "unknown", "degraded", "webhooks_silent", "webhooks_behind")
"""Kinds that follow from an app that is unreachable as a whole."""
_AT_ONCE = 5_000

_MEMBERS = (
    select(
        col(IncidentConnection.incident_id),
        col(Connection.id),
        col(Connection.customer_id),
        col(Connection.provider),
    )
    .join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
    .where(col(IncidentConnection.incident_id).in_(bindparam("ids", expanding=True)))
)
_SINCE = bindparam("since", type_=UtcDateTime)
_WINDOWS = select(SilenceRow).where(
    col(SilenceRow.ends_at) > _SINCE,
    col(SilenceRow.starts_at) <= bindparam("until", type_=UtcDateTime),
)
_Who = tuple[str, str | None, str | None]
"""A connection, its customer, its provider."""


async def silences(
    session: AsyncSession,
    incidents: Sequence[Incident],
    now: datetime,
    *,
    back: timedelta = FORGOTTEN_AFTER,
) -> dict[str, list[Silence]]:
    """By incident, the times in which it is not to be told.

    Those that begin later are left out, and those that ended longer than `back` ago.
    """
    members = await _members(session, [incident.id for incident in incidents])
    windows = await _of_windows(session, members, now, back)
    ahead = await _before_go_live(
        session,
        {incident.id: members[incident.id] for incident in incidents if incident.scope != "app"},
    )
    covers = await app_outages(session, now=now, back=back)
    return {
        incident.id: [
            *windows.get(incident.id, ()),
            *ahead.get(incident.id, ()),
            *_of_app(incident, covers),
            *_muted(incident),
        ]
        for incident in incidents
    }


async def suppressed(
    session: AsyncSession, incidents: Sequence[Incident], now: datetime
) -> dict[str, str]:
    """Those of `incidents` that are not to be told at `now`, each with why."""
    found = await silences(session, incidents, now, back=APP_GRACE)
    return {
        identifier: covering[0].why
        for identifier, some in found.items()
        if (covering := [silence for silence in some if silence.starts_at <= now < silence.ends_at])
    }


async def in_window(store: Store, connection_ids: Sequence[str], now: datetime) -> set[str]:
    """Those of the connections that are in a maintenance window, or muted, at `now`."""
    async with store.read() as session:
        found = await _windows(session, now, timedelta())
        windows = [row for row, window in found if now < window.ends_at]
        if not windows:
            return set()
        covered: set[str] = set()
        for some in _pieces(connection_ids):
            rows = await session.execute(
                select(
                    col(Connection.id), col(Connection.customer_id), col(Connection.provider)
                ).where(col(Connection.id).in_(some))
            )
            covered |= {
                identifier
                for identifier, *of in rows
                if any(_covers_member(row, (identifier, of[0], of[1])) for row in windows)
            }
        return covered


async def _of_windows(
    session: AsyncSession, members: Mapping[str, set[_Who]], now: datetime, back: timedelta
) -> dict[str, list[Silence]]:
    """The windows that cover every connection of an incident."""
    windows = await _windows(session, now, back) if members else []
    return {
        incident_id: covering
        for incident_id, some_members in members.items()
        if (
            covering := [
                window
                for row, window in windows
                if row.scope == "all"
                or (some_members and all(_covers_member(row, member) for member in some_members))
            ]
        )
    }


async def _before_go_live(
    session: AsyncSession, members: Mapping[str, set[_Who]]
) -> dict[str, list[Silence]]:
    """By incident, the time in which all its connections were being implemented."""
    ids = {identifier for some in members.values() for identifier, *_ in some}
    underway = await implemented(session, sorted(ids))
    found: dict[str, list[Silence]] = {}
    for incident_id, some in members.items():
        own = [underway.get(identifier) for identifier, *_ in some]
        came_with = [one for one in own if one is not None]
        if not came_with or len(came_with) < len(own):
            continue
        since = max(one.since for one in came_with)
        until = min(one.live_at or FOREVER for one in came_with)
        if since < until:
            why = f"{came_with[0].title} is not live yet: its implementation says it"
            found[incident_id] = [Silence(since, until, why)]
    return found


async def _members(session: AsyncSession, ids: Sequence[str]) -> dict[str, set[_Who]]:
    """Who is or was in each of the incidents `ids`."""
    members: dict[str, set[_Who]] = {one: set() for one in ids}
    for some in _pieces(ids):
        found = await session.execute(_MEMBERS, {"ids": list(some)})
        for incident_id, identifier, customer_id, provider in found:
            members[incident_id].add((identifier, customer_id, provider))
    return members


async def _windows(
    session: AsyncSession, now: datetime, back: timedelta
) -> list[tuple[SilenceRow, Silence]]:
    rows = await session.scalars(_WINDOWS, {"since": now - back, "until": now})
    return [(row, _window(row)) for row in rows if _end(row) > row.starts_at]


def _covers_member(row: SilenceRow, member: _Who) -> bool:
    connection_id, customer_id, provider = member
    if row.scope == "all":
        return True
    return row.subject == {
        "connection": connection_id,
        "customer": customer_id,
        "provider": provider,
    }.get(row.scope)


def _window(row: SilenceRow) -> Silence:
    reason = f": {row.reason}" if row.reason else ""
    return Silence(row.starts_at, _end(row), f"{row.kind} of {row.label}{reason}")


def _end(row: SilenceRow) -> datetime:
    return min(row.ends_at, row.ended_at or row.ends_at)


def _of_app(incident: Incident, covers: Mapping[str, list[tuple[str, Silence]]]) -> list[Silence]:
    """An app unreachable as a whole silences what follows from it and opened while it lasted."""
    if incident.kind not in _COVERED:
        return []
    return [
        silence
        for identifier, silence in covers.get(incident.app, ())
        if identifier != incident.id and silence.starts_at <= incident.since < silence.ends_at
    ]


def _muted(incident: Incident) -> list[Silence]:
    since, until = incident.muted_at, incident.muted_until
    return [Silence(since, until, "muted")] if since and until and since < until else []


def _pieces(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE)]
