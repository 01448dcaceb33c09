"""Who is about to be written to, or written about, is asked first where nothing recent is known.

A sweep asks each connection in trouble every few minutes. After a time in which none ran (nothing
of Linekeeper did, or Prefect was away) what was seen last may be over, and nobody is to be told
that it isn't: no customer, no operator, and nobody who is on call.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, select
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.health.evidence import Health
from linekeeper.incidents.announce import OF_ITS_ROUND
from linekeeper.incidents.conclude_queries import TOPIC
from linekeeper.makini import MakiniError
from linekeeper.runtime import Runtime, UnknownApp
from linekeeper.store.engine import chunked
from linekeeper.store.tables import (
    AppState,
    Connection,
    Credential,
    Incident,
    IncidentConnection,
    PartHeartbeat,
)
from linekeeper.store.types import UtcDateTime
from linekeeper.sweep.app import TOPIC as LIST
from linekeeper.sweep.batch import probe_batch
from linekeeper.sweep.sweep import take_list
from linekeeper.tokens.stored import is_live

RECENT = timedelta(minutes=30)
"""What was seen within this time is how it is: several sweeps."""
AT_ONCE = 100
SECONDS = 30.0
"""How long a look may take; what hasn't answered by then is asked again the next time."""

_KNOWN = (
    select(
        col(Connection.id),
        col(Connection.app),
        col(Connection.health),
        col(Connection.last_answered_at),
        col(Connection.last_checked_at),
        col(AppState.last_list_at),
        select(col(Credential.connection_id))
        .where(
            col(Credential.connection_id) == col(Connection.id),
            is_live(bindparam("now", type_=UtcDateTime())),
        )
        .exists()
        .label("has_token"),
    )
    .outerjoin(AppState, col(AppState.app) == col(Connection.app))
    .where(col(Connection.id).in_(bindparam("connections", expanding=True)))
)
_OPEN = (
    select(col(Incident.topic), col(Incident.app), col(IncidentConnection.connection_id))
    .outerjoin(
        IncidentConnection,
        (col(IncidentConnection.incident_id) == col(Incident.id))
        & col(IncidentConnection.left_at).is_(None)
        & OF_ITS_ROUND,
    )
    .where(
        col(Incident.id).in_(bindparam("incidents", expanding=True)),
        col(Incident.resolved_at).is_(None),
        col(Incident.topic).in_((TOPIC, LIST)),
    )
)
_SWEPT = select(func.max(col(PartHeartbeat.at))).where(col(PartHeartbeat.kind) == "sweep")


def looking(rt: Runtime) -> Callable[[Collection[str]], Awaitable[None]]:
    """What looks, with `rt`, at the connections of incidents of whom nothing recent is known.

    An incident of an app's list is looked at by reading the list, if no sweep has done so.
    """

    async def look(incidents: Collection[str]) -> None:
        apps: set[str] = set()
        members: set[str] = set()
        now = utcnow()
        async with rt.store.read() as session:
            swept = await session.scalar(_SWEPT)
            for chunk in chunked(sorted(incidents), 5_000):
                for topic, app, member in await session.execute(_OPEN, {"incidents": chunk}):
                    if topic == LIST:
                        if swept is None or swept < now - RECENT:
                            apps.add(app)
                    elif member is not None:
                        members.add(member)
        if apps or members:
            await ask_where_old(rt, members, now=now, listing=apps)

    return look


async def ask_where_old(
    rt: Runtime, connections: Collection[str], *, now: datetime, listing: Collection[str] = ()
) -> dict[str, bool]:
    """Ask those of `connections` of whom nothing recent is known; and whether something is then.

    One that can't be asked, as it has no token, is as Makini's list says, which is read where that
    is old, too; and so are the lists of the apps `listing`. What goes wrong is no news of anybody.
    """
    before = await _known(rt, connections, now)
    old = {identifier: row for identifier, row in before.items() if _is_old(row, now)}
    listed = {row.app for row in old.values() if not row.has_token} | set(listing)
    for app in sorted({row.app for row in old.values()} | listed):
        mine = {identifier: row for identifier, row in old.items() if row.app == app}
        with suppress(TimeoutError, MakiniError, UnknownApp):
            async with asyncio.timeout(SECONDS):
                await _ask(rt, app, mine, now, is_listed=app in listed)
    after = await _known(rt, old, now)
    return {
        identifier: _seen_at(row) != _seen_at(old[identifier])
        or _is_listed(old[identifier] if row.has_token else row, now)
        for identifier, row in after.items()
    }


async def _ask(
    rt: Runtime, app: str, connections: Mapping[str, Any], now: datetime, *, is_listed: bool
) -> None:
    config = await rt.app(app)
    ids = sorted(identifier for identifier, row in connections.items() if row.has_token)
    if ids:
        await probe_batch(rt, config, ids[:AT_ONCE], started=now, last_try=True)
    if is_listed and not any(_is_listed(row, now) for row in connections.values()):
        await take_list(rt, config, now=utcnow())
    rest = sorted(connections.keys() - set(ids))
    if rest:  # by now its word is the list's of a moment ago
        await probe_batch(rt, config, rest[:AT_ONCE], started=now, last_try=True)


def _seen_at(row: Any) -> datetime | None:
    """When it was last seen to be as it is: that a login is lost, only an answer says."""
    is_lost = row.health == Health.reauthorization_required
    seen: datetime | None = row.last_answered_at if is_lost else row.last_checked_at
    return seen


def _is_old(row: Any, now: datetime) -> bool:
    seen = _seen_at(row)
    return seen is not None and seen < now - RECENT


def _is_listed(row: Any, now: datetime) -> bool:
    return row.last_list_at is not None and row.last_list_at >= now - RECENT


async def _known(rt: Runtime, connections: Collection[str], now: datetime) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    async with rt.store.read() as session:
        for chunk in chunked(sorted(connections), 5_000):
            portion = await session.execute(_KNOWN, {"connections": chunk, "now": now})
            rows |= {row.id: row for row in portion}
    return rows
