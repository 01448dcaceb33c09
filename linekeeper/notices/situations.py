"""What the alert policy has to know, read in few statements."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, case, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import Configuration
from linekeeper.notices.decision import FOREVER, Reach, Silence, Situation, Told
from linekeeper.notices.policy import severity
from linekeeper.notices.queries import merged_into
from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    IncidentConnection,
    Notice,
    NoticeChannel,
    NoticeMessage,
)
from linekeeper.store.tables import Silence as SilenceRow

FORGOTTEN_AFTER = timedelta(days=7)
"""What was resolved longer ago and never told will not be."""
APP_GRACE = timedelta(minutes=15)
"""After an app's trouble its connections have so long to be well again."""
_HOUR = timedelta(hours=1)
_COVERED = ("unreachable", "unknown", "degraded", "webhooks_silent", "webhooks_behind")
"""Kinds that follow from the trouble of an app as a whole."""
_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class State:
    """What there is at one moment."""

    situations: Sequence[Situation] = ()
    told: Sequence[Told] = ()
    reach: Reach = field(default_factory=Reach)
    trouble: str = ""
    """Why Slack takes no messages; empty: nothing is known against it."""


async def read_state(session: AsyncSession, configuration: Configuration, now: datetime) -> State:
    """What the policy decides from: every incident of which something may have to be said."""
    incidents = await _incidents(session, now)
    channel = await session.get(NoticeChannel, "slack")
    trouble = channel.trouble if channel else ""
    reach = Reach(
        configured=configuration.slack is not None,
        broken_since=channel.since if channel else None,
        needs_mending=bool(channel and channel.needs_mending),
    )
    if not incidents:
        return State(reach=reach, trouble=trouble)
    ids = [one.id for one in incidents]
    facts = await _facts(session, ids)
    merged = await merged_into(session, [one.id for one in incidents if one.resolved_at])
    silences = await _silences(session, ids, now)
    covers = await _covers(session, now)
    situations = [
        Situation(
            id=one.id,
            severity=severity(one.kind, one.scope, **facts.get(one.id, _NOBODY)),
            opened_at=one.opened_at,
            acknowledged_at=one.acknowledged_at,
            resolved_at=one.resolved_at,
            merged=one.id in merged,
            snoozed_until=_time(one.detail.get("snoozed_until")),
            silences=[*silences.get(one.id, ()), *_of_app(one, covers), *_muted(one)],
        )
        for one in incidents
    ]
    slack = configuration.slack
    if slack is not None and configuration.alerts.elsewhere:
        reach = replace(reach, delivered=await _delivered(session, slack.channel, ids))
    return State(situations, await _told(session, ids, now), reach, trouble)


_NOBODY = {"live": False, "critical": False}


async def _incidents(session: AsyncSession, now: datetime) -> Sequence[Incident]:
    def noticed(*conditions: Any) -> Any:
        return exists().where(col(Notice.incident_id) == col(Incident.id), *conditions)

    answered = noticed(col(Notice.channel) == "slack", col(Notice.step).in_(("first", "never")))
    elsewhere = col(Notice.channel) == "elsewhere"
    owed = and_(noticed(elsewhere), ~noticed(elsewhere, col(Notice.step) == "resolved"))
    found = await session.scalars(
        select(Incident).where(
            or_(
                col(Incident.resolved_at).is_(None),
                and_(col(Incident.resolved_at) > now - FORGOTTEN_AFTER, or_(~answered, owed)),
            )
        )
    )
    return found.all()


async def _facts(session: AsyncSession, ids: Sequence[str]) -> dict[str, dict[str, bool]]:
    """Whether a member is live, and whether a critical customer's is among them."""
    found: dict[str, dict[str, bool]] = {}
    for some in _pieces(ids):
        rows = await session.execute(
            select(
                col(IncidentConnection.incident_id),
                func.max(case((col(Connection.setup) == "live", 1), else_=0)),
                func.max(case((col(Customer.critical).is_(True), 1), else_=0)),
            )
            .join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
            .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
            .where(col(IncidentConnection.incident_id).in_(some))
            .group_by(col(IncidentConnection.incident_id))
        )
        found |= {row[0]: {"live": bool(row[1]), "critical": bool(row[2])} for row in rows}
    return found


async def _silences(
    session: AsyncSession, ids: Sequence[str], now: datetime
) -> dict[str, list[Silence]]:
    """The windows that cover every connection of an incident."""
    rows = (
        await session.scalars(
            select(SilenceRow).where(
                col(SilenceRow.ends_at) > now - FORGOTTEN_AFTER, col(SilenceRow.starts_at) <= now
            )
        )
    ).all()
    windows = [(row, _window(row)) for row in rows if _end(row) > row.starts_at]
    if not windows:
        return {}
    members: dict[str, set[tuple[str | None, ...]]] = {one: set() for one in ids}
    for some in _pieces(ids):
        found = await session.execute(
            select(
                col(IncidentConnection.incident_id),
                col(Connection.id),
                col(Connection.customer_id),
                col(Connection.provider),
            )
            .join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
            .where(col(IncidentConnection.incident_id).in_(some))
        )
        for incident_id, *one in found:
            members[incident_id].add((one[0], one[1], one[2]))
    return {
        incident_id: covering
        for incident_id, some_members in members.items()
        if (
            covering := [
                window
                for row, window in windows
                if row.scope == "all"
                or (some_members and all(_covers_member(row, one) for one in some_members))
            ]
        )
    }


def _covers_member(row: SilenceRow, member: tuple[str | None, ...]) -> bool:
    connection_id, customer_id, provider = member
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


async def _covers(session: AsyncSession, now: datetime) -> Mapping[str, list[tuple[str, Silence]]]:
    """By app, the times in which it was in trouble as a whole, each with its incident."""
    rows = await session.scalars(
        select(Incident).where(
            col(Incident.scope) == "app",
            col(Incident.kind).in_(("list_failed", "unreachable")),
            or_(
                col(Incident.resolved_at).is_(None),
                col(Incident.resolved_at) > now - FORGOTTEN_AFTER,
            ),
        )
    )
    covers: dict[str, list[tuple[str, Silence]]] = {}
    for row in sorted(rows, key=lambda row: (row.opened_at, row.id)):
        end = row.resolved_at + APP_GRACE if row.resolved_at else FOREVER
        why = f"follows from the trouble of app {row.app} as a whole"
        covers.setdefault(row.app, []).append((row.id, Silence(row.opened_at, end, why)))
    return covers


def _of_app(one: Incident, covers: Mapping[str, list[tuple[str, Silence]]]) -> list[Silence]:
    """An app's trouble silences what follows from it, and what opened while it lasted."""
    if one.kind not in _COVERED:
        return []
    return [
        silence
        for identifier, silence in covers.get(one.app, ())
        if identifier != one.id and silence.starts_at <= one.opened_at < silence.ends_at
    ]


def _muted(one: Incident) -> list[Silence]:
    since, until = (_time(one.detail.get(name)) for name in ("muted_at", "muted_until"))
    return [Silence(since, until, "muted")] if since and until and since < until else []


async def _told(session: AsyncSession, ids: Collection[str], now: datetime) -> list[Told]:
    recent = await session.scalars(select(Notice).where(col(Notice.at) > now - _HOUR))
    rows = {row.id: row for row in recent}
    for some in _pieces(sorted(ids)):
        found = await session.scalars(select(Notice).where(col(Notice.incident_id).in_(some)))
        rows |= {row.id: row for row in found}
    return [
        Told(row.incident_id, row.channel, row.step, row.at, row.fold)
        for row in rows.values()
        if row.step != "never"
    ]


async def _delivered(session: AsyncSession, channel: str, ids: Sequence[str]) -> frozenset[str]:
    """Incidents that have a message in Slack, of their own or with others."""
    subjects = {f"incident:{one}": one for one in ids}
    folds = await session.execute(
        select(col(Notice.fold), col(Notice.incident_id)).where(
            col(Notice.incident_id).in_(ids[:_AT_ONCE]), col(Notice.fold).is_not(None)
        )
    )
    of_fold: dict[str, list[str]] = {}
    for fold, incident_id in folds:
        of_fold.setdefault(f"fold:{fold}", []).append(incident_id)
    found = await session.scalars(
        select(col(NoticeMessage.subject)).where(
            col(NoticeMessage.channel) == channel,
            col(NoticeMessage.subject).in_([*subjects, *of_fold][: 2 * _AT_ONCE]),
        )
    )
    delivered: set[str] = set()
    for subject in found:
        delivered |= {subjects[subject]} if subject in subjects else set(of_fold[subject])
    return frozenset(delivered)


def _time(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def _pieces(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE)]
