"""What the alert policy is asked and what it answers, as plain data; and what it is asked, read."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import and_, bindparam, case, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import Configuration, Severity
from linekeeper.incidents.announce import OF_ITS_ROUND, heads
from linekeeper.incidents.conclude_queries import being_checked
from linekeeper.incidents.kinds import severity
from linekeeper.incidents.one_cause import FOREVER, Suppression
from linekeeper.incidents.suppressed import (
    FORGOTTEN_AFTER,
    SINCE,
    IncidentRow,
    silences,
)
from linekeeper.notify.channels import known_as
from linekeeper.notify.groups import GROUP_KIND, GroupKind, delivered_of
from linekeeper.notify.merged import merged_into
from linekeeper.notify.routing import DEFAULT, channels_for, channels_of
from linekeeper.notify.steps import Step, step_of
from linekeeper.store.engine import chunked
from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    IncidentConnection,
    Notice,
    NoticeChannel,
)
from linekeeper.store.types import UtcDateTime

Channel = Literal["slack", "elsewhere"]
Unsettled = Literal["alike", "checked"]
HoldCause = Unsettled | Literal["silence", "lasting", "quiet"]


@dataclass(frozen=True, slots=True)
class Situation:
    """An incident as the policy sees it."""

    id: str
    severity: Severity
    opened_at: datetime
    """When the present trouble began: where it was opened again, then."""
    round: int = 0
    """How often it was opened again."""
    acknowledged_at: datetime | None = None
    resolved_at: datetime | None = None
    merged: bool = False
    """It goes on in a wider incident."""
    snoozed_until: datetime | None = None
    silences: Sequence[Suppression] = ()
    slack_channel: str = DEFAULT
    """The Slack channel it is announced in (`notify.routing`)."""
    unsettled: Unsettled | None = None
    """A login that was lost moments after another of its provider, or that is being checked."""
    joined_at: datetime | None = None
    """When the last of its connections joined it."""


@dataclass(frozen=True, slots=True)
class Notified:
    """Something that was decided to be said."""

    incident_id: str
    channel: str
    step: Step
    at: datetime
    group_key: str | None = None
    """The one message about several incidents, if it is part of one."""
    group_kind: str | None = None
    round: int = 0
    """The number of the incident's opening that it is about."""
    slack_channel: str = DEFAULT


@dataclass(frozen=True, slots=True)
class Say:
    """Something to say now, and why now."""

    incident_id: str
    channel: Channel
    step: Step
    why: str
    group_key: str | None = None
    group_kind: GroupKind | None = None
    severity: Severity = "normal"
    round: int = 0
    """The number of the incident's opening that it is about."""
    slack_channel: str = DEFAULT


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Not now: why, and until when at least."""

    cause: HoldCause
    why: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether Slack's channel can be reached, and which incidents have a message there."""

    configured: bool = True
    broken_since: datetime | None = None
    needs_fix: bool = False
    """Only a person can fix it: a token, a scope, a channel."""
    delivered: frozenset[str] = frozenset()
    others: Mapping[str, "Reach"] = field(default_factory=dict)
    """The channels other than `default`; their `delivered` is that of all."""


@dataclass(slots=True)
class NoticeDecision:
    """What is to be said now, what never will be and why, what waits."""

    say: list[Say] = field(default_factory=list)
    never: dict[str, str] = field(default_factory=dict)
    held: dict[str, HeldBack] = field(default_factory=dict)

    def reason(self, incident_id: str) -> str:
        """Why nobody is notified of an incident now."""
        if incident_id in self.never:
            return self.never[incident_id]
        holding = self.held.get(incident_id)
        if holding is None:
            return "not to be notified"
        ends = "" if holding.until == FOREVER else f" until {holding.until:%Y-%m-%d %H:%M} UTC"
        return f"{holding.why}{ends}"


RANK: Mapping[str, int] = {"low": 0, "normal": 1, "critical": 2, "never": 3}
_HOUR = timedelta(hours=1)
_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Moment:
    """What there is at one moment."""

    situations: Sequence[Situation] = ()
    notified: Sequence[Notified] = ()
    reach: Reach = field(default_factory=Reach)


async def read_state(session: AsyncSession, configuration: Configuration, now: datetime) -> Moment:
    """What the policy decides from: every incident of which something may have to be said."""
    incidents = await _incidents(session, now)
    reach = await _reach(session, configuration)
    if not incidents:
        return Moment(reach=reach)
    ids = [incident.id for incident in incidents]
    facts = await _facts(session, ids)
    over = [incident.id for incident in incidents if incident.resolved_at]
    merged = await merged_into(session, over) if over else {}
    hushed = await silences(session, incidents, now)
    unsettled: dict[str, Unsettled] = dict.fromkeys(heads(incidents), "alike")
    for incident_id in await being_checked(session, incidents, now=now):
        unsettled.setdefault(incident_id, "checked")
    severities = {
        incident.id: severity(
            incident.kind,
            "connection" if _is_alone(incident, known) else incident.scope,
            live=known.live,
            critical=known.critical,
        )
        for incident in incidents
        for known in (facts.get(incident.id, _NOBODY),)
    }
    for incident_id, spans in hushed.items():
        for cause_id in {each.cause_id for each in spans if each.starts_at <= now < each.ends_at}:
            if cause_id in severities:  # what stands for others is as severe as they are
                both = severities[cause_id], severities[incident_id]
                severities[cause_id] = max(both, key=lambda severity: RANK[severity])
    channels = await channels_for(session, configuration, incidents, severities)
    situations = [
        Situation(
            id=incident.id,
            severity=severities[incident.id],
            opened_at=incident.since,
            round=incident.round,
            acknowledged_at=incident.acknowledged_at,
            resolved_at=incident.resolved_at,
            merged=incident.id in merged,
            snoozed_until=incident.snoozed_until,
            silences=hushed[incident.id],
            unsettled=unsettled.get(incident.id),
            slack_channel=channels.get(incident.id, DEFAULT),
            joined_at=facts.get(incident.id, _NOBODY).joined_at,
        )
        for incident in incidents
    ]
    in_slack = [channel.channel for channel in channels_of(configuration).values()]
    if in_slack and configuration.alerts.elsewhere:
        reach = replace(reach, delivered=await delivered_of(session, in_slack, ids))
    return Moment(situations, await _notified(session, ids, now), reach)


async def _reach(session: AsyncSession, configuration: Configuration) -> Reach:
    troubles = {row.channel: row for row in await session.execute(_TROUBLES)}

    def of(name: str) -> Reach:
        trouble = troubles.get(known_as(name))
        return Reach(
            configured=name != DEFAULT or configuration.slack is not None,
            broken_since=trouble.since if trouble else None,
            needs_fix=bool(trouble and trouble.needs_fix),
        )

    return replace(of(DEFAULT), others={name: of(name) for name in configuration.slack_channels})


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of an incident's members."""

    live: bool = False
    critical: bool = False
    """Whether one of them is, or is a critical customer's."""
    joined_at: datetime | None = None
    count: int = 0


_NOBODY = _Facts()


def _is_alone(incident: IncidentRow, known: _Facts) -> bool:
    """Whether a wide incident was reopened for one connection: no root cause of many is seen."""
    return incident.topic == "health" and known.count == 1


def _noticed(*conditions: Any) -> Any:
    """Whether there is such a notice of the incident's present opening."""
    return exists().where(
        col(Notice.incident_id) == col(Incident.id),
        col(Notice.round) == col(Incident.round),
        *conditions,
    )


_ANSWERED = _noticed(col(Notice.channel) == "slack", col(Notice.step).in_(("first", "never")))
_FALLBACK = col(Notice.channel) == "elsewhere"
_OWED = and_(_noticed(_FALLBACK), ~_noticed(_FALLBACK, col(Notice.step) == "resolved"))
_UNSAID = select(
    col(Incident.id),
    col(Incident.topic),
    col(Incident.kind),
    col(Incident.scope),
    col(Incident.app),
    col(Incident.provider),
    col(Incident.opened_at),
    SINCE,
    col(Incident.round),
    col(Incident.acknowledged_at),
    col(Incident.resolved_at),
    col(Incident.snoozed_until),
    col(Incident.muted_at),
    col(Incident.muted_until),
).where(
    or_(
        col(Incident.resolved_at).is_(None),
        and_(
            col(Incident.resolved_at) > bindparam("since", type_=UtcDateTime),
            or_(~_ANSWERED, _OWED),
        ),
    )
)
_IN_USE = or_(col(Connection.setup) == "live", col(Connection.disappeared_at).is_not(None))
_FACTS = (
    select(
        col(IncidentConnection.incident_id),
        func.max(case((_IN_USE, 1), else_=0)),
        func.max(case((col(Customer.critical).is_(True), 1), else_=0)),
        func.max(col(IncidentConnection.joined_at)),
        func.count(col(Connection.id).distinct()),
    )
    .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
    .join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
    .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
    .where(col(IncidentConnection.incident_id).in_(bindparam("ids", expanding=True)), OF_ITS_ROUND)
    .group_by(col(IncidentConnection.incident_id))
)
_TROUBLES = select(
    col(NoticeChannel.channel), col(NoticeChannel.since), col(NoticeChannel.needs_fix)
)
_NOTIFIED = select(
    col(Notice.id),
    col(Notice.incident_id),
    col(Notice.channel),
    col(Notice.step),
    col(Notice.step_kind),
    col(Notice.number),
    col(Notice.at),
    col(Notice.group_key),
    GROUP_KIND,
    col(Notice.round),
    func.coalesce(col(Notice.slack_channel), DEFAULT),
).where(
    col(Notice.step) != "never",
    or_(
        col(Notice.at) > bindparam("since", type_=UtcDateTime),
        col(Notice.incident_id).in_(bindparam("ids", expanding=True)),
    ),
)
"""Built once: the policy is asked at every change, and building them takes longer than running."""


async def _incidents(session: AsyncSession, now: datetime) -> Sequence[IncidentRow]:
    rows: Any = await session.execute(_UNSAID, {"since": now - FORGOTTEN_AFTER})
    return list(rows)


async def _facts(session: AsyncSession, ids: Sequence[str]) -> dict[str, _Facts]:
    facts: dict[str, _Facts] = {}
    for batch in chunked(ids, _AT_ONCE):
        rows = await session.execute(_FACTS, {"ids": batch})
        facts |= {row[0]: _Facts(bool(row[1]), bool(row[2]), row[3], row[4]) for row in rows}
    return facts


async def _notified(session: AsyncSession, ids: Collection[str], now: datetime) -> list[Notified]:
    notified: dict[str, Notified] = {}
    for batch in chunked(sorted(ids), _AT_ONCE):
        rows: Any = await session.execute(_NOTIFIED, {"since": now - _HOUR, "ids": batch})
        for identifier, incident_id, channel, name, kind, number, *others in rows:
            step = step_of(name, kind, number)
            notified[identifier] = Notified(incident_id, channel, step, *others)
    return list(notified.values())
