"""What else explains a connection that was not healthy, read from what was noted of it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import bindparam, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.availability.app_outages import away_together
from linekeeper.availability.decide import LEAD, TimeSpan, Troubles
from linekeeper.outbox.forward import BEGAN, UNTAKEN
from linekeeper.store.engine import chunked
from linekeeper.store.tables import AppAbsence, AppState, Incident, IncidentEntry, Outage, Silence
from linekeeper.store.tables.alerts import PAUSE_WINDOW
from linekeeper.store.tables.health import LIST_REFUSED, SWEEP_OVERDUE

_APP = ("unreachable", "list_failed")
"""Kinds of incidents of a whole app that explain why its connections give no answer. In an app of
few connections the second is all that shows it: so few are never one incident."""
_FOUND_WITHIN = timedelta(days=3)
"""How long after the month an incident may be opened of what began in it: a message for the product
waits no longer."""


async def read_troubles(session: AsyncSession, month: TimeSpan) -> Troubles:
    """Our own outages, those of whole apps, of products, and when nobody looked."""
    outages = await session.scalars(
        select(Outage).where(col(Outage.since) < month.until, col(Outage.until) > month.since)
    )
    incidents = await session.scalars(
        select(Incident).where(
            or_(
                (col(Incident.scope) == "app") & col(Incident.kind).in_(_APP),
                col(Incident.kind).in_(UNTAKEN),
                col(Incident.cause) == SWEEP_OVERDUE,
            ),
            col(Incident.opened_at) < month.until + _FOUND_WITHIN,
            or_(col(Incident.resolved_at).is_(None), col(Incident.resolved_at) > month.since),
        )
    )
    apps: dict[str, list[TimeSpan]] = {}
    products: dict[str, list[TimeSpan]] = {}
    unwatched = []
    incident_rows = incidents.all()
    together = await away_together(
        session, [each.id for each in incident_rows if each.kind == "unreachable"], month
    )
    earlier = await _earlier_rounds(session, [each.id for each in incident_rows if each.round])
    for incident in incident_rows:
        present = TimeSpan(incident.since, incident.resolved_at or month.until)
        rounds = [*earlier[incident.id], present]
        if incident.cause == SWEEP_OVERDUE:
            unwatched += rounds
            continue
        if incident.detail.get(LIST_REFUSED):
            continue  # Makini answered: that says nothing of its connections
        if incident.kind in UNTAKEN and incident.detail.get(BEGAN, "") is None:
            continue  # nothing was handed to the product, which may be well
        kept = products if incident.kind in UNTAKEN else apps
        lead = UNTAKEN.get(incident.kind, timedelta())  # a message had waited before it was opened
        whole = [replace(each, since=each.since - lead) for each in earlier[incident.id]]
        whole.append(replace(present, since=_began(incident)))
        kept.setdefault(incident.app, []).extend(together.get(incident.id, whole))
    ours = []
    for outage in outages:
        ours.append(TimeSpan(outage.since, outage.until))
        if outage.cause == "standstill":
            unwatched.append(ours[-1])
    unwatched += await _paused(session, month)
    return Troubles(ours, apps, products, unwatched, await _removed(session, month))


async def _earlier_rounds(
    session: AsyncSession, incident_ids: Sequence[str]
) -> defaultdict[str, list[TimeSpan]]:
    """When incidents that were reopened were open before; between two rounds all was well."""
    rounds: defaultdict[str, list[TimeSpan]] = defaultdict(list)
    begun: dict[str, datetime] = {}
    for ids in chunked(incident_ids, 5_000):
        for incident_id, what, at in await session.execute(_ENTRIES, {"ids": ids}):
            if what in ("opened", "reopened"):
                begun[incident_id] = at
            elif incident_id in begun:
                rounds[incident_id].append(TimeSpan(begun.pop(incident_id), at))
    for incident_id in rounds.keys() - begun.keys():
        rounds[incident_id].pop()  # the present round, which is over
    return rounds


_ENTRIES = (
    select(col(IncidentEntry.incident_id), col(IncidentEntry.kind), col(IncidentEntry.at))
    .where(
        col(IncidentEntry.incident_id).in_(bindparam("ids", expanding=True)),
        col(IncidentEntry.kind).in_(("opened", "reopened", "resolved", "merged")),
    )
    .order_by(col(IncidentEntry.at), col(IncidentEntry.id))
)


def _began(incident: Incident) -> datetime:
    """When what it is about began; a message for the product had waited before it was opened."""
    began = incident.since - UNTAKEN.get(incident.kind, timedelta())
    said = incident.detail.get(BEGAN) if incident.kind in UNTAKEN else None
    if said is None:
        return began
    since = datetime.fromisoformat(said)  # a product that refuses one message may take others
    return min(began, since) if incident.kind == "forward_refused" else since


async def _paused(session: AsyncSession, month: TimeSpan) -> list[TimeSpan]:
    """When everything was paused for longer than it is between two probes."""
    rows = await session.execute(
        select(col(Silence.starts_at), col(Silence.ended_at)).where(
            col(Silence.kind) == PAUSE_WINDOW,
            col(Silence.starts_at) < month.until,
            or_(col(Silence.ended_at).is_(None), col(Silence.ended_at) > month.since),
        )
    )
    spans = [TimeSpan(since, until or month.until) for since, until in rows]
    return [span for span in spans if span.until - span.since >= LEAD]


async def _removed(session: AsyncSession, month: TimeSpan) -> dict[str, list[TimeSpan]]:
    """When which app was out of the settings, or is."""
    over = select(col(AppAbsence.app), col(AppAbsence.since), col(AppAbsence.until)).where(
        col(AppAbsence.since) < month.until, col(AppAbsence.until) > month.since
    )
    lasting = select(col(AppState.app), col(AppState.removed_at)).where(
        col(AppState.removed_at) < month.until
    )
    spans: dict[str, list[TimeSpan]] = {}
    for app, since, until in await session.execute(over):
        spans.setdefault(app, []).append(TimeSpan(since, until))
    for app, removed_at in await session.execute(lasting):
        if removed_at is not None:
            spans.setdefault(app, []).append(TimeSpan(removed_at, month.until))
    return spans
