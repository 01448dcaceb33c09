"""The state of the fleet, of what is wrong and of what is waiting, in a few bounded queries."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.config import Configuration
from linekeeper.customers.distinct_labels import SAID
from linekeeper.customers.naming import label
from linekeeper.health.evidence import Evidence, Health
from linekeeper.notify.routing import channels_of
from linekeeper.outbox.backlog import read_backlog
from linekeeper.reconcile.entity_incidents import entity_states
from linekeeper.store import Store
from linekeeper.store.leases import IS_CONSUMERS
from linekeeper.store.lists import count_rows
from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    IncidentConnection,
    Lease,
    Outbox,
)
from linekeeper.store.types import from_row
from linekeeper.views.counts import app_lines, count_connections, sums, tokenless
from linekeeper.views.fleet_models import AppLine
from linekeeper.views.glances import (
    RecordsGlance,
    WebhooksGlance,
    records_at_a_glance,
    webhooks_at_a_glance,
)
from linekeeper.views.managed import name_rules
from linekeeper.views.windows import WindowsGlance, windows_in_force

INCIDENTS_SHOWN = 100
NAMES_SHOWN = 10
UNSENT_SHOWN = 10


@dataclass(frozen=True, slots=True)
class IncidentGlance:
    """An incident that isn't over. `connections` holds the first `NAMES_SHOWN` of `members`."""

    id: str
    kind: str
    scope: str
    status: str
    title: str
    app: str
    provider: str
    opened_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    members: int
    connections: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OutboxGlance:
    """What is in the outbox of one channel."""

    pending: int
    dead: int
    oldest_pending_at: datetime | None
    """Since when the first of those pending was due."""
    last_error: str | None
    planned: int = 0
    """Written for a time to come, and not among those pending."""


@dataclass(frozen=True, slots=True)
class LeaseGlance:
    """Who is doing what, until when unless renewed."""

    name: str
    owner: str
    until: datetime
    kind: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Glance:
    """Everything at `at` (UTC)."""

    at: datetime
    connections: int
    customers: int
    without_token: int
    health: Mapping[str, int]
    evidence: Mapping[str, int]
    """How strong the evidence of the healthy ones is: `listed`, `probed`, `read`."""
    setup: Mapping[str, int]
    open_incidents: int
    incidents: tuple[IncidentGlance, ...]
    """The newest `INCIDENTS_SHOWN`."""
    slack_configured: bool
    outbox: Mapping[str, OutboxGlance]
    unsent: tuple[str, ...]
    """The last messages that would have been sent if Slack were configured, newest first."""
    apps: Mapping[str, AppLine]
    webhooks: WebhooksGlance
    records: RecordsGlance
    leases: tuple[LeaseGlance, ...]
    windows: WindowsGlance = field(default_factory=WindowsGlance)
    """Of whom nobody is notified now."""
    mode_rules: tuple[str, ...] = ()
    """What there are rules for the mode of."""

    def as_json(self) -> dict[str, Any]:
        """Plain data with stable keys; times as ISO-8601 UTC."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


async def glance(store: Store, configuration: Configuration, *, now: datetime) -> Glance:
    """Everything as it is at `now`, of one moment."""
    records = records_at_a_glance(await entity_states(store))
    async with store.read() as session:
        counts = await count_connections(session)
        connected = [count for count in counts if count.setup != "disconnected"]
        healthy = [count for count in connected if count.health == Health.healthy]
        health = sums(connected, "health")
        return Glance(
            at=now,
            connections=sum(health.values()),
            customers=await count_rows(session, Customer),
            without_token=await count_rows(session, Connection, *tokenless(configuration, now)),
            health=health,
            evidence=dict.fromkeys((kind.value for kind in Evidence), 0)
            | sums(healthy, "evidence"),
            setup=sums(counts, "setup"),
            open_incidents=await count_rows(session, Incident, col(Incident.resolved_at).is_(None)),
            incidents=await _incidents(session),
            slack_configured=bool(channels_of(configuration)),
            outbox=await _outbox(session, now),
            unsent=await _unsent(session),
            apps={
                line.name: line for line in await app_lines(session, configuration, connected, now)
            },
            webhooks=await webhooks_at_a_glance(session),
            records=records,
            windows=await windows_in_force(session, now),
            mode_rules=tuple(await name_rules(session)),
            leases=tuple(
                from_row(LeaseGlance, lease)
                for lease in await session.scalars(
                    select(Lease)
                    .where(col(Lease.until) > now, ~IS_CONSUMERS)
                    .order_by(col(Lease.name))
                )
            ),
        )


async def _incidents(session: AsyncSession) -> tuple[IncidentGlance, ...]:
    incidents = list(
        await session.scalars(
            select(Incident)
            .where(col(Incident.resolved_at).is_(None))
            .order_by(col(Incident.opened_at).desc())
            .limit(INCIDENTS_SHOWN)
        )
    )
    members = await session.execute(
        select(
            col(IncidentConnection.incident_id),
            *SAID,
        )
        .join(Connection, col(Connection.id) == col(IncidentConnection.connection_id))
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .where(
            col(IncidentConnection.incident_id).in_([incident.id for incident in incidents]),
            col(IncidentConnection.left_at).is_(None),
        )
        .order_by(col(IncidentConnection.joined_at))
    )
    names: dict[str, list[str]] = {}
    for incident_id, *said in members:
        names.setdefault(incident_id, []).append(label(*said))
    return tuple(
        from_row(
            IncidentGlance,
            row,
            opened_at=row.since,
            members=len(names.get(row.id, ())),
            connections=tuple(names.get(row.id, ())[:NAMES_SHOWN]),
        )
        for row in incidents
    )


async def _outbox(session: AsyncSession, now: datetime) -> dict[str, OutboxGlance]:
    return {
        channel: OutboxGlance(
            backlog.pending,
            backlog.dead,
            backlog.oldest_at,
            await _last_error(session, channel),
            backlog.planned,
        )
        for channel, backlog in (await read_backlog(session, now=now)).items()
    }


async def _last_error(session: AsyncSession, channel: str) -> str | None:
    return await session.scalar(
        select(col(Outbox.error))
        .where(
            col(Outbox.channel) == channel,
            col(Outbox.status).in_(("pending", "dead")),
            col(Outbox.error).is_not(None),
        )
        .order_by(col(Outbox.seq).desc())
        .limit(1)
    )


async def _unsent(session: AsyncSession) -> tuple[str, ...]:
    rows = await session.scalars(
        select(col(Outbox.error))
        .where(
            col(Outbox.channel) == "slack",
            col(Outbox.status) == "skipped",
            col(Outbox.error).is_not(None),
        )
        .order_by(col(Outbox.settled_at).desc(), col(Outbox.seq).desc())
        .limit(UNSENT_SHOWN)
    )
    return tuple(error or "" for error in rows)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    return value
