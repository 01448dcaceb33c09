"""What the reports say, read from the store in a few statements. Times are aware UTC."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy import ColumnElement, and_, false, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.pending import kept_logins
from linekeeper.config import Configuration
from linekeeper.customers.distinct_labels import SAID
from linekeeper.customers.naming import label
from linekeeper.health.evidence import Health, Outcome
from linekeeper.health.judge import is_trouble
from linekeeper.incidents.suppressed import SINCE
from linekeeper.store import Store
from linekeeper.store.health_changes import HEALTH_CHANGES
from linekeeper.store.lists import count_rows
from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    IncidentConnection,
    Observation,
    PartHeartbeat,
    Transition,
)
from linekeeper.store.tables.health import SWEEP_OVERDUE
from linekeeper.store.types import from_row
from linekeeper.tokens.lost_renewal import lost_renewals
from linekeeper.tokens.stored import has_usable_token
from linekeeper.views.connections import with_predecessors
from linekeeper.views.counts import app_lines, count_connections, mode_of, sums, tokenless
from linekeeper.views.fleet_models import (
    OBSERVATIONS_SHOWN,
    TRANSITIONS_SHOWN,
    ConnectionReport,
    FleetReport,
    TroubleLine,
)
from linekeeper.views.health_chart import Bar, Newcomer, Turned, first_start, replay, step_for
from linekeeper.views.managed import name_rules
from linekeeper.views.windows import windows_in_force

TROUBLES_SHOWN = 200
TOKENLESS_SHOWN = 20


async def fleet_report(store: Store, configuration: Configuration, *, now: datetime) -> FleetReport:
    """The fleet as it is. The history knows only of connections that are not disconnected now."""
    async with store.read() as session:
        counts = await count_connections(session)
        troubles_total = sum(
            count.number
            for count in counts
            if is_trouble(count.setup, count.health, answered=count.answered)
        )
        connected = [count for count in counts if count.setup != "disconnected"]
        by_health = sums(connected, "health")
        without_token = tokenless(configuration, now)
        return FleetReport(
            at=now,
            by_health=by_health,
            by_setup=sums(counts, "setup"),
            evidence=sums(
                [count for count in connected if count.health == Health.healthy], "evidence"
            ),
            apps=await app_lines(session, configuration, connected, now),
            troubles=await _troubles(session),
            troubles_total=troubles_total,
            tokenless=await _labels(session, *without_token),
            tokenless_total=await count_rows(session, Connection, *without_token),
            mode_rules=await name_rules(session),
            windows=await windows_in_force(session, now),
            unchecked_since=await unchecked_since(session),
            history=await _history(
                session, by_health, min((count.oldest for count in connected), default=None), now
            ),
        )


async def connection_reports(
    store: Store, configuration: Configuration, ids: Collection[str], *, now: datetime
) -> list[ConnectionReport]:
    """A report for each of the connections `ids` that exists, in the order of `ids`."""
    if not ids:
        return []
    reports = {}
    async with store.read() as session:
        rows = await session.execute(
            select(Connection, Customer, has_usable_token(now, configuration.apps))
            .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
            .where(col(Connection.id).in_(ids))
        )
        incidents = await _incidents(session, ids)
        kept = await kept_logins(session, ids)
        unanswered = await lost_renewals(session, ids)
        for connection, customer, has_token in rows.all():
            history = await with_predecessors(session, connection.id)
            reports[connection.id] = ConnectionReport(
                at=now,
                label=_label(connection, customer),
                connection=connection,
                customer=customer,
                has_token=has_token,
                mode=connection.mode or mode_of(configuration, connection.app),
                incidents=incidents.get(connection.id, []),
                transitions=await _latest(session, Transition, history, TRANSITIONS_SHOWN + 1),
                observations=await _latest(session, Observation, history, OBSERVATIONS_SHOWN + 1),
                is_renewal_lost=connection.id in unanswered,
                login_kept=kept.get(connection.id),
            )
    return [reports[identifier] for identifier in ids if identifier in reports]


async def unchecked_since(session: AsyncSession) -> datetime | None:
    """Since when no sweep was completed, where that is an open incident; else None."""
    last_sweep = select(func.max(col(PartHeartbeat.at))).where(col(PartHeartbeat.kind) == "sweep")
    row = (
        await session.execute(
            select(last_sweep.scalar_subquery(), SINCE).where(
                col(Incident.cause) == SWEEP_OVERDUE, col(Incident.resolved_at).is_(None)
            )
        )
    ).first()
    return None if row is None else row[0] or row[1]


def in_trouble() -> ColumnElement[bool]:
    """`judge.is_trouble` as SQL."""
    setup, health = col(Connection.setup), col(Connection.health)
    return and_(
        setup.in_(["authorizing", "syncing", "live"]),
        health != Health.healthy,
        or_(
            health != Health.unknown,
            and_(setup == "live", col(Connection.last_answered_at).is_not(None)),
        ),
    )


def _label(connection: Connection, customer: Customer | None) -> str:
    said = (connection.provider, connection.name, connection.told_apart_by)
    return label(customer.name if customer is not None else None, *said)


async def _troubles(session: AsyncSession) -> list[TroubleLine]:
    said = (
        select(col(Observation.id))
        .where(
            col(Observation.connection_id) == col(Connection.id),
            col(Observation.outcome).not_in((Outcome.answered, Outcome.login_restored)),
            or_(col(Observation.code).is_not(None), col(Observation.message).is_not(None)),
        )
        .order_by(col(Observation.at).desc(), col(Observation.id).desc())
        .limit(1)
        .correlate(Connection)
        .scalar_subquery()
    )
    rows = await session.execute(
        select(Connection, Customer, Observation)
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .outerjoin(Observation, col(Observation.id) == said)
        .where(in_trouble())
        .order_by(
            func.coalesce(col(Customer.critical), false()).desc(),
            col(Connection.health_since).desc(),
            col(Connection.id),
        )
        .limit(TROUBLES_SHOWN)
    )
    trouble_rows = list(rows.all())
    incidents = await _incidents(session, [connection.id for connection, _, _ in trouble_rows])
    return [
        from_row(
            TroubleLine,
            connection,
            label=_label(connection, customer),
            critical=customer is not None and customer.critical,
            since=connection.health_since,
            answer=observation,
            incident=next(iter(incidents.get(connection.id, [])), None),
        )
        for connection, customer, observation in trouble_rows
    ]


async def _incidents(session: AsyncSession, ids: Collection[str]) -> Mapping[str, list[Incident]]:
    """The open incidents of connections, those about their health first."""
    incidents: defaultdict[str, list[Incident]] = defaultdict(list)
    rows = await session.execute(
        select(col(IncidentConnection.connection_id), Incident)
        .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
        .where(
            col(IncidentConnection.connection_id).in_(ids),
            col(IncidentConnection.left_at).is_(None),
            col(Incident.resolved_at).is_(None),
        )
        .order_by(col(IncidentConnection.topic) != "health", col(Incident.opened_at))
    )
    for connection_id, incident in rows.all():
        incidents[connection_id].append(incident)
    return incidents


async def _labels(session: AsyncSession, *where: ColumnElement[bool]) -> list[str]:
    rows = await session.execute(
        select(*SAID)
        .outerjoin_from(Connection, Customer, col(Customer.id) == col(Connection.customer_id))
        .where(*where)
        .order_by(col(Connection.slug))
        .limit(TOKENLESS_SHOWN)
    )
    return [label(*row) for row in rows]


async def _history(
    session: AsyncSession, by_health: Mapping[str, int], oldest: datetime | None, now: datetime
) -> list[Bar]:
    step = step_for(oldest, now)
    since = first_start(step, now)
    rows = await session.execute(
        HEALTH_CHANGES.join(Connection, col(Connection.id) == col(Transition.connection_id))
        .where(
            col(Transition.at) >= since,
            col(Connection.setup) != "disconnected",
        )
        .order_by(col(Transition.at), col(Transition.id))
    )
    changes: list[Turned] = []
    born_as: dict[str, str] = {}
    for connection_id, at, before, after in rows:
        born_as.setdefault(connection_id, before)
        changes.append(Turned(at, before, after))
    young = await session.execute(
        select(col(Connection.id), col(Connection.created_at), col(Connection.health)).where(
            col(Connection.created_at) >= since, col(Connection.setup) != "disconnected"
        )
    )
    newcomers = [
        Newcomer(at, born_as.get(connection_id, health)) for connection_id, at, health in young
    ]
    return replay(by_health, changes, newcomers, step=step, now=now)


_Row = TypeVar("_Row", Transition, Observation)


async def _latest(
    session: AsyncSession, table: type[_Row], of: Sequence[str], limit: int
) -> list[_Row]:
    rows = await session.scalars(
        select(table)
        .where(col(table.connection_id).in_(of))
        .order_by(col(table.at).desc(), col(table.id).desc())
        .limit(limit)
    )
    return list(rows)
