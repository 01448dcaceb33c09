"""What the digest contains, read in few statements."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.credits.service import ledger, ledger_apps
from linekeeper.customers.distinct_labels import SAID
from linekeeper.customers.naming import label
from linekeeper.incidents.kinds import severity
from linekeeper.incidents.suppressed import SINCE
from linekeeper.notify.merged import merged_into, unwatched
from linekeeper.store import Store
from linekeeper.store.engine import chunked
from linekeeper.store.tables import (
    AppState,
    Connection,
    ConnectLink,
    Credential,
    Customer,
    Implementation,
    Incident,
    IncidentConnection,
    Notice,
    Observation,
    WebhookTrust,
)
from linekeeper.store.types import from_row
from linekeeper.text import is_only_listed
from linekeeper.views.digest_measures import Life

HORIZON = timedelta(days=7)
"""A token that ends within it and was not renewed is worth a look."""
_SIGNS_WITHIN = timedelta(hours=1)
_SIGNS = ("missed", "unclear", "login_lost", "refused", "strange", "sync_failing")
_AT_ONCE = 5_000
_IS_WATCHED = ~exists().where(
    col(AppState.app) == col(Connection.app), col(AppState.removed_at).is_not(None)
)
"""That the app of a connection is in the settings: of others nothing is known."""


@dataclass(frozen=True, slots=True)
class Day:
    """Everything the digest contains."""

    since: datetime
    now: datetime
    lives: Sequence[Life]
    """What was open at some time since, or for the charts before that."""
    fleet: Mapping[str, int]
    """Connections by health, of those that are live."""
    trust: dict[str, int]
    """Connections by webhook trust."""
    distrusted: Sequence[str]
    """Those whose webhooks can't be relied on, by the names that people know."""
    expiring: int
    """Logins that end within a week and can be renewed without the customer."""
    running: int
    """Implementations under way."""
    slips: Sequence[str] = field(default_factory=list)
    credits: Mapping[str, int] = field(default_factory=dict)
    """What each app has available, of those of which anybody said how many were bought."""
    managed: str = ""
    """How many connections are managed, and how many observed, in words."""
    availability: str = ""
    """The month before, in the first digest of a month."""
    ending: int = 0
    """Logins that end within a week and that only the customer can renew."""
    listed: int = 0
    """The healthy ones of which there is only the word of Makini's list."""


async def read_day(store: Store, *, since: datetime, charts_since: datetime, now: datetime) -> Day:
    """The digest's facts between `since` and `now`; incidents from `charts_since` on."""
    async with store.read() as session:
        lives = await read_lives(session, charts_since)
        states = await session.execute(
            select(col(Connection.health), col(Connection.evidence), func.count())
            .where(col(Connection.setup) == "live", _IS_WATCHED)
            .group_by(col(Connection.health), col(Connection.evidence))
        )
        fleet: Counter[str] = Counter()
        listed = 0
        for health, evidence, count in states:
            fleet[health] += count
            listed += count if is_only_listed(health, evidence) else 0
        trust = await session.execute(
            select(col(WebhookTrust.state), func.count())
            .join(Connection, col(Connection.id) == col(WebhookTrust.connection_id))
            .where(col(Connection.setup) != "disconnected", _IS_WATCHED)
            .group_by(col(WebhookTrust.state))
        )
        distrusted = await session.execute(
            select(*SAID)
            .join(WebhookTrust, col(WebhookTrust.connection_id) == col(Connection.id))
            .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
            .where(
                col(WebhookTrust.state).in_(("bad", "none")),
                col(Connection.setup) != "disconnected",
                _IS_WATCHED,
            )
        )
        by_customer = or_(
            col(Credential.refused_at).is_not(None), col(Credential.refresh_token).is_(None)
        )
        ends = await session.execute(
            select(by_customer, func.count())
            .join(Connection, col(Connection.id) == col(Credential.connection_id))
            .where(
                col(Connection.setup) != "disconnected",
                _IS_WATCHED,
                col(Connection.custody) == "owned",
                col(Credential.minted).is_(False),
                col(Credential.expires_at) > now,
                col(Credential.expires_at) < now + HORIZON,
            )
            .group_by(by_customer)
        )
        ending = {bool(only): count for only, count in ends}
        implementations = (
            await session.execute(
                select(col(Implementation.title), col(Implementation.digest))
                .where(col(Implementation.status) == "running")
                .order_by(col(Implementation.p80))
            )
        ).all()
        day = Day(
            since=since,
            now=now,
            lives=lives,
            fleet=fleet,
            listed=listed,
            trust={row[0]: row[1] for row in trust},
            distrusted=sorted(label(*said) for said in distrusted),
            expiring=ending.get(False, 0),
            ending=ending.get(True, 0),
            running=len(implementations),
            slips=[line for _, line in implementations if line],
        )
    credits = {}
    for app in await ledger_apps(store):
        own = await ledger(store, today=now.date(), app=app)
        if own.known:
            credits[app] = own.balance.available
    return replace(day, credits=credits)


async def read_lives(session: AsyncSession, since: datetime) -> list[Life]:
    """Every incident that was open at some time after `since`, oldest first."""
    incidents = (
        await session.scalars(
            select(Incident)
            .where(or_(col(Incident.resolved_at).is_(None), col(Incident.resolved_at) > since))
            .order_by(SINCE, col(Incident.id))
        )
    ).all()
    ids = [incident.id for incident in incidents]
    firsts: dict[str, Notice] = {}
    signs: dict[str, datetime] = {}
    by_customer: set[str] = set()
    merged: set[str] = set()
    removed: set[str] = set()
    for batch in chunked(ids, _AT_ONCE):
        merged |= set(await merged_into(session, batch))
        removed |= await unwatched(session, batch)
        notices = await session.scalars(
            select(Notice)
            .where(
                col(Notice.incident_id).in_(batch),
                col(Notice.channel) == "slack",
                col(Notice.step).in_(("first", "never")),
            )
            # Of several openings the last one counts of which people were notified.
            .order_by(col(Notice.step) == "first", col(Notice.round))
        )
        firsts |= {notice.incident_id: notice for notice in notices}
        rows = await session.execute(
            select(col(IncidentConnection.incident_id), SINCE, col(Observation.at))
            .join(
                Observation,
                col(Observation.connection_id) == col(IncidentConnection.connection_id),
            )
            .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
            .where(
                col(IncidentConnection.incident_id).in_(batch),
                since < SINCE,
                col(Observation.outcome).in_(_SIGNS),
                col(Observation.at) <= SINCE,
                col(Observation.at) > since - _SIGNS_WITHIN,
            )
            .order_by(col(Observation.at))
        )
        for incident_id, opened_at, at in rows:
            if opened_at - at <= _SIGNS_WITHIN:
                signs.setdefault(incident_id, at)
        links = await session.scalars(
            select(col(ConnectLink.incident_id)).where(
                col(ConnectLink.incident_id).in_(batch), col(ConnectLink.used_at).is_not(None)
            )
        )
        by_customer |= {link for link in links if link is not None}
    return [
        from_row(
            Life,
            incident,
            opened_at=incident.since,
            **_announcement(incident, firsts.get(incident.id)),
            merged=incident.id in merged,
            is_unwatched=incident.id in removed,
            signs_at=signs.get(incident.id),
            by_customer=incident.id in by_customer,
        )
        for incident in incidents
    ]


def _announcement(incident: Incident, first: Notice | None) -> dict[str, Any]:
    """How severe it is, and whether people were notified of it."""
    announced = first if first is not None and first.step == "first" else None
    # What has grown beyond one connection since is not what it was announced as.
    as_announced = announced is not None and incident.scope == "connection"
    now = severity(incident.kind, incident.scope, live=True, critical=False)
    return {
        "severity": announced.severity if announced and as_announced else now,
        "message": (announced.group_key or incident.id) if announced else None,
        "notified_at": announced.at if announced else None,
        "withheld": first.why if first and not announced else "",
    }
