"""What a sweep has to turn red for (DESIGN "Red means new")."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import bindparam, func, literal_column, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import HealthPolicy
from linekeeper.customers.naming import label
from linekeeper.health.evidence import SEVERITY, Health
from linekeeper.incidents import lifecycle
from linekeeper.incidents.cause_of import CAUSE
from linekeeper.incidents.kinds import meaning, severity
from linekeeper.incidents.suppressed import SINCE, IncidentRow, suppressed
from linekeeper.store import Store
from linekeeper.store.engine import chunked
from linekeeper.store.tables import (
    Connection,
    Credential,
    Customer,
    Incident,
    IncidentConnection,
    Outbox,
    Transition,
)
from linekeeper.store.types import UtcDateTime
from linekeeper.text import health_name

Reason = Literal["new", "worse", "unacknowledged"]
_HEALTHS = frozenset(Health)


@dataclass(frozen=True, slots=True)
class News:
    """One thing to turn red for: a connection newly in trouble or worse, or an incident."""

    reason: Reason
    incident_id: str
    membership_id: str | None
    connection_id: str | None
    slug: str | None
    name: str
    """`Customer · System`, or the incident's title."""
    kind: str
    since: datetime
    evidence: str
    """What Makini said, with its code and request id, or why it is degraded; may be empty."""

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        since = f"since {self.since:%Y-%m-%d %H:%M} UTC"
        if self.connection_id is None:  # the title of an incident says what is wrong
            lead = {
                "new": self.name,
                "worse": f"{self.name}: worse",
                "unacknowledged": f"{self.name}: not acknowledged yet",
            }[self.reason]
            return f"{lead} ({'; '.join(filter(None, [since, self.evidence]))})"
        words = health_name(self.kind)
        lead = {
            "new": f"{self.name}: {words}",
            "worse": f"{self.name}: now {words}",
            "unacknowledged": f"{self.name}: {words}, not acknowledged yet",
        }[self.reason]
        return f"{lead} {since}" + (f" ({self.evidence})" if self.evidence else "")


@dataclass(frozen=True, slots=True)
class Findings:
    """What is new, and how many connections and incidents are in trouble without being news."""

    news: Sequence[News]
    known: int
    suppressed: int = 0
    """Not to be announced now: in a maintenance window, muted, part of an app's own trouble."""

    @property
    def summary(self) -> str:
        """`2 new problems, 3 known`, or `all healthy`."""
        new = sum(item.reason == "new" for item in self.news)
        counts = [
            (new, "new problem" if new == 1 else "new problems"),
            (sum(news.reason == "worse" for news in self.news), "worse"),
            (sum(news.reason == "unacknowledged" for news in self.news), "unacknowledged"),
            (self.known, "known"),
            (self.suppressed, "not announced"),
        ]
        return ", ".join(f"{count} {word}" for count, word in counts if count) or "all healthy"


_OPEN = (
    select(
        col(Incident.id),
        col(Incident.status),
        col(Incident.topic),
        col(Incident.kind),
        col(Incident.scope),
        col(Incident.app),
        col(Incident.title),
        col(Incident.message),
        SINCE,
        col(Incident.reported_at),
        col(Incident.snoozed_until),
        col(Incident.muted_at),
        col(Incident.muted_until),
    )
    .where(col(Incident.resolved_at).is_(None))
    .order_by(col(Incident.id))
)
_CAUSED = frozenset({Health.degraded, Health.unknown, Health.reauthorization_required})
"""Kinds of which the cause says more than the evidence."""
_IN_TROUBLE = (
    select(
        col(IncidentConnection.id),
        col(IncidentConnection.incident_id),
        col(IncidentConnection.kind),
        col(IncidentConnection.reported_kind),
        col(IncidentConnection.joined_at),
        col(Connection.id),
        col(Connection.slug),
        col(Connection.provider),
        col(Connection.name),
        col(Connection.told_apart_by),
        col(Connection.health_since),
        CAUSE,
        col(Customer.name),
    )
    .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
    .join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
    .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
    .outerjoin(Credential, col(Credential.connection_id) == col(Connection.id))
    .where(col(IncidentConnection.left_at).is_(None), col(Incident.resolved_at).is_(None))
    .order_by(col(IncidentConnection.id))
)


async def find_news(store: Store, *, policy: HealthPolicy, now: datetime) -> Findings:
    """What to turn red for, read from what is open and what runs were red for before.

    What is not to be announced now is no news; it is if it is still wrong afterwards.
    """
    async with store.read() as session:
        members = (await session.execute(_IN_TROUBLE)).all()
        rows: Any = await session.execute(_OPEN)
        incidents: Sequence[IncidentRow] = rows.all()
        silent = await suppressed(session, incidents, now)
        news = []
        for member_id, incident_id, kind, reported, joined_at, *connection in members:
            reason = _reason(kind, reported)
            if reason is not None and incident_id not in silent:
                identifier, slug, *said, since, cause, customer = connection
                says_more = cause and kind in _CAUSED
                why = meaning(kind, cause).split(". ")[0].rstrip(".") if says_more else ""
                news.append(
                    News(
                        reason=reason,
                        incident_id=incident_id,
                        membership_id=member_id,
                        connection_id=identifier,
                        slug=slug,
                        name=label(customer, *said),
                        kind=kind,
                        since=since if kind in _HEALTHS else joined_at,
                        evidence=why,
                    )
                )
        news = await _with_evidence(session, news)
    named = {item.incident_id for item in news}
    with_members = {incident_id for _, incident_id, *_ in members}
    for incident in incidents:
        if incident.id in named or incident.id in silent:
            continue
        fresh = incident.reported_at is None and incident.id not in with_members
        due = incident.reported_at is not None and now - incident.reported_at >= timedelta(
            hours=policy.remind_hours
        )
        waits = incident.status == "open" and _is_worth_reminding(incident)
        is_snoozed = incident.snoozed_until is not None and incident.snoozed_until > now
        if fresh or (due and waits and not is_snoozed):
            news.append(_of_incident(incident, "new" if fresh else "unacknowledged"))
    named = {item.incident_id for item in news if item.membership_id is None}
    fresh_members = {item.membership_id for item in news}
    others = [
        incident_id
        for member_id, incident_id, *_ in members
        if member_id not in fresh_members and incident_id not in named
    ]
    others += [
        incident.id
        for incident in incidents
        if incident.id not in with_members and incident.id not in named
    ]
    quiet = sum(identifier in silent for identifier in others)
    return Findings(news, known=len(others) - quiet, suppressed=quiet)


@dataclass(frozen=True, slots=True)
class Since:
    """What became of the fleet since a moment."""

    checked: int
    """Connections that were really asked."""
    listed: int
    """Connections judged by Makini's list alone: nothing was asked of them."""
    changed: Sequence[str]
    """Connections whose health changed, other than those first found well."""
    ordering_keys: Sequence[str]
    """Ordering keys of the outbox under which something is said of it in Slack."""


_STARTED: Any = bindparam("started", type_=UtcDateTime)
_IS_LISTED = func.coalesce(
    col(Connection.evidence) == literal_column("'listed'"), literal_column("false")
)
_LOOKED = (
    select(_IS_LISTED, func.count())
    .where(col(Connection.last_checked_at) >= _STARTED)
    .group_by(_IS_LISTED)
)
_CHANGED = (
    select(col(Transition.connection_id))
    .where(
        col(Transition.at) >= _STARTED,
        col(Transition.axis) == "health",
        or_(col(Transition.before) != "unknown", col(Transition.after) != "healthy"),
    )
    .distinct()
)
_ORDERING_KEYS = (
    select(col(Outbox.ordering_key))
    .where(col(Outbox.created_at) >= _STARTED, col(Outbox.channel) == "slack")
    .distinct()
)


async def since(store: Store, started: datetime) -> Since:
    """What was checked, changed and said since `started`, whoever did it."""
    async with store.read() as session:
        rows = await session.execute(_LOOKED, {"started": started})
        looked = {bool(listed): number for listed, number in rows}
        changed = await session.scalars(_CHANGED, {"started": started})
        ordering_keys = await session.scalars(_ORDERING_KEYS, {"started": started})
        return Since(
            looked.get(False, 0), looked.get(True, 0), sorted(changed), sorted(ordering_keys)
        )


async def mark_reported(store: Store, news: Iterable[News], *, now: datetime) -> None:
    """Remember that a run was red for `news`."""
    news = list(news)
    if not news:
        return
    memberships: dict[str, list[str]] = {}
    for item in news:
        if item.membership_id:
            memberships.setdefault(item.kind, []).append(item.membership_id)
    async with store.write() as session:
        await lifecycle.mark_reported(
            session, (item.incident_id for item in news), memberships, now=now
        )


def _reason(kind: str, reported: str | None) -> Reason | None:
    if reported is None:
        return "new"
    if kind == reported or kind not in _HEALTHS or reported not in _HEALTHS:
        return None  # a member of an incident that is not about its health
    return "worse" if SEVERITY[Health(kind)] > SEVERITY[Health(reported)] else None


def _is_worth_reminding(incident: IncidentRow) -> bool:
    """Not of what is low whomever it hits: slow, flapping, stale."""
    return severity(incident.kind, incident.scope, live=True, critical=False) != "low"


def _of_incident(incident: IncidentRow, reason: Reason) -> News:
    return News(
        reason=reason,
        incident_id=incident.id,
        membership_id=None,
        connection_id=None,
        slug=None,
        name=incident.title,
        kind=incident.kind,
        since=incident.since,
        evidence=incident.message or "",
    )


_EVIDENCE = (
    select(col(Transition.connection_id), col(Transition.after), col(Transition.evidence))
    .where(
        col(Transition.connection_id).in_(bindparam("ids", expanding=True)),
        col(Transition.axis) == "health",
    )
    .order_by(col(Transition.at), col(Transition.id))
)


async def _with_evidence(session: AsyncSession, news: list[News]) -> list[News]:
    """Each with what the transition that led there says."""
    ids = [item.connection_id for item in news if item.connection_id]
    said: dict[tuple[str, str], str] = {}
    for chunk in chunked(ids, 5_000):
        for identifier, after, evidence in await session.execute(_EVIDENCE, {"ids": chunk}):
            said[identifier, after] = _said(evidence)
    return [
        replace(item, evidence=item.evidence or said.get((item.connection_id or "", item.kind), ""))
        for item in news
    ]


def _said(evidence: dict[str, str]) -> str:
    parts = dict.fromkeys([evidence.get("code", ""), evidence.get("message", "")])
    text = " ".join(part for part in parts if part)
    if request_id := evidence.get("request_id"):
        text = (
            f"{text.rstrip('.')}, request id {request_id}" if text else f"request id {request_id}"
        )
    return text
