"""What incidents are concluded from: those that are open, and whoever is or was in trouble."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import Row, and_, bindparam, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.naming import label
from linekeeper.customers.setup import ESTABLISHED
from linekeeper.health.evidence import CALLS, Health
from linekeeper.health.judge import is_trouble
from linekeeper.incidents.announce import OF_ITS_ROUND
from linekeeper.incidents.causes import Customers, ProviderCounts, Scope, Trouble
from linekeeper.incidents.decide import DISCONNECTED, Open, Past
from linekeeper.outbox.events import RECONNECT, reconnect_ordering_key
from linekeeper.store.engine import chunked
from linekeeper.store.tables import (
    AppState,
    Connection,
    Credential,
    Customer,
    Incident,
    IncidentConnection,
    Outbox,
    Transition,
)

TOPIC = "health"
CHECK_WAIT = timedelta(seconds=15)
"""A lost login that is only reported is announced then, checked or not; a check takes less."""
_LOST = Health.reauthorization_required.value


@dataclass(frozen=True, slots=True)
class Who:
    """A connection, as far as incidents are about it."""

    label: str
    app: str
    provider: str
    setup: str
    health: str
    answered: bool
    since: datetime
    disappeared_at: datetime | None = None
    removed_at: datetime | None = None
    """When its app was taken out of the settings."""
    customer_id: str | None = None
    customer: str | None = None
    """What its customer is called."""

    @property
    def trouble(self) -> str | None:
        """The kind of incident it needs; None where nothing is wrong."""
        if self.removed_at is not None:
            return None
        if self.disappeared_at is not None:
            return DISCONNECTED
        return self.health if is_trouble(self.setup, self.health, answered=self.answered) else None


_OPEN = (
    select(
        col(Incident.id),
        col(Incident.scope),
        col(Incident.kind),
        col(Incident.app),
        col(Incident.provider),
        col(Incident.customer_id),
        func.coalesce(col(Incident.reopened_at), col(Incident.opened_at)).label("since"),
    )
    .where(col(Incident.resolved_at).is_(None), col(Incident.topic) == TOPIC)
    .order_by(col(Incident.id))
)
_MEMBERS = select(
    col(IncidentConnection.incident_id),
    col(IncidentConnection.connection_id),
    col(IncidentConnection.kind),
).where(col(IncidentConnection.left_at).is_(None), col(IncidentConnection.topic) == TOPIC)
_CONCERNED = (
    select(
        col(Connection.id),
        col(Customer.name),
        col(Connection.provider),
        col(Connection.name),
        col(Connection.told_apart_by),
        col(Connection.app),
        col(Connection.setup),
        col(Connection.health),
        col(Connection.last_answered_at),
        col(Connection.health_since),
        # Replaced by a new login, nothing of it is missed.
        case((col(Connection.replaced_by).is_(None), col(Connection.disappeared_at))),
        col(AppState.removed_at),
        col(Connection.customer_id),
    )
    .outerjoin(AppState, col(AppState.app) == col(Connection.app))
    .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
    .where(
        or_(
            and_(
                col(Connection.health) != "healthy",
                or_(
                    col(Connection.health) != "unknown",
                    col(Connection.last_answered_at).is_not(None),
                ),
            ),
            col(Connection.disappeared_at).is_not(None),
            col(Connection.id).in_(bindparam("members", expanding=True)),
        )
    )
)
_OTHER_INCIDENTS = (
    select(col(IncidentConnection.connection_id), col(Incident.kind), col(Incident.opened_at))
    .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
    .where(
        col(IncidentConnection.connection_id).in_(bindparam("connections", expanding=True)),
        col(IncidentConnection.left_at).is_(None),
        col(Incident.resolved_at).is_(None),
    )
    .order_by(col(Incident.opened_at), col(Incident.id))
)
_PAST = (
    select(
        col(IncidentConnection.connection_id),
        col(Incident.id),
        col(Incident.scope),
        col(IncidentConnection.kind),
        col(Incident.resolved_at),
        col(Incident.customer_id),
    )
    .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
    .where(
        col(IncidentConnection.connection_id).in_(bindparam("connections", expanding=True)),
        col(IncidentConnection.topic) == TOPIC,
        col(Incident.resolved_at) >= bindparam("since"),
    )
    .order_by(col(IncidentConnection.left_at), col(IncidentConnection.id))
)
_IS_SUSPECT = and_(
    col(Connection.suspect).is_(True), col(Connection.health).in_(("healthy", "degraded"))
)
_TOTALS = (
    select(
        col(Connection.app),
        col(Connection.provider),
        func.count(),
        func.sum(case((_IS_SUSPECT, 1), else_=0)),
    )
    .where(col(Connection.setup).in_(ESTABLISHED))
    .group_by(col(Connection.app), col(Connection.provider))
)
"""Built once: building them takes longer than running them."""


async def open_incidents(session: AsyncSession) -> list[Open]:
    """What is open about connections' health, with who is in it now."""
    members: dict[str, dict[str, str]] = {}
    for incident_id, connection_id, kind in await session.execute(_MEMBERS):
        members.setdefault(incident_id, {})[connection_id] = kind
    return [
        Open(
            id=incident.id,
            scope=_scope(incident.scope, incident.customer_id),
            kind=incident.kind,
            app=incident.app,
            provider=incident.provider,
            opened_at=incident.since,
            members=members.get(incident.id, {}),
            customer_id=incident.customer_id,
        )
        for incident in await session.execute(_OPEN)
    ]


def _scope(text: str, customer_id: str | None) -> Scope:
    """How far a root cause reaches; a version before wrote and reads a customer's as the app's."""
    return "customer" if customer_id is not None else cast("Scope", text)


def stored_scope(scope: Scope) -> str:
    """What is written for `scope`: a version before knows none of a customer."""
    return "app" if scope == "customer" else scope


async def concerned(session: AsyncSession, members: Sequence[str]) -> dict[str, Who]:
    """Every connection that may be in trouble, and every member of an incident."""
    who: dict[str, Who] = {}
    for portion in list(chunked(members, 10_000)) or [[]]:
        rows = await session.execute(_CONCERNED, {"members": portion})
        for identifier, customer, provider, name, told_apart_by, app, setup, *rest in rows:
            health, answered_at, since, disappeared_at, removed_at, customer_id = rest
            who[identifier] = Who(
                label(customer, provider, name, told_apart_by),
                app,
                provider,
                setup,
                health,
                answered_at is not None,
                since,
                disappeared_at,
                removed_at,
                customer_id=customer_id,
                customer=customer,
            )
    return who


async def open_kinds(
    session: AsyncSession, connections: Sequence[str]
) -> dict[str, list[tuple[str, datetime]]]:
    """What is open about each of `connections`, of whichever topic: its kind, and since when."""
    memberships: dict[str, list[tuple[str, datetime]]] = {}
    for portion in chunked(connections, 10_000):
        for row in await session.execute(_OTHER_INCIDENTS, {"connections": portion}):
            memberships.setdefault(row[0], []).append((row[1], row[2]))
    return memberships


async def past_incidents(
    session: AsyncSession, connections: Sequence[str], since: datetime
) -> dict[str, Past]:
    """The last incident of each of `connections` that was resolved since."""
    past: dict[str, Past] = {}
    for batch in chunked(connections, 10_000):
        rows = await session.execute(_PAST, {"connections": batch, "since": since})
        past |= {
            row[0]: Past(row[1], _scope(row[2], row[5]), row[3], row[4])
            for row in rows
            if row[4] is not None
        }
    return past


async def totals(
    session: AsyncSession,
) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], int]]:
    """How many established connections there are, by (app, provider); and how many are suspect.

    Those don't answer, but are not in trouble yet.
    """
    rows = (await session.execute(_TOTALS)).all()
    counts = {(app, provider): count for app, provider, count, _ in rows}
    return counts, {(app, provider): suspect for app, provider, _, suspect in rows if suspect}


_OF_CUSTOMERS = (
    select(
        col(Connection.app),
        col(Connection.customer_id),
        col(Connection.provider),
        func.count(),
        func.sum(case((_IS_SUSPECT, 1), else_=0)),
    )
    .where(
        col(Connection.setup).in_(ESTABLISHED),
        col(Connection.customer_id).in_(bindparam("customers", expanding=True)),
    )
    .group_by(col(Connection.app), col(Connection.customer_id), col(Connection.provider))
)


async def standings(session: AsyncSession, troubles: Iterable[Trouble]) -> Customers:
    """How the connections stand of every customer who has several in trouble."""
    several = Counter(trouble.customer_id for trouble in troubles)
    ids = sorted(each for each, count in several.items() if each is not None and count > 1)
    counts_of: defaultdict[tuple[str, str], dict[str, ProviderCounts]] = defaultdict(dict)
    for chunk in chunked(ids, 5_000):
        for app, customer_id, provider, total, suspect in await session.execute(
            _OF_CUSTOMERS, {"customers": chunk}
        ):
            counts_of[app, customer_id][provider] = ProviderCounts(total, suspect)
    return counts_of


_LOSSES = (
    select(col(Transition.connection_id), col(Transition.source))
    .join(Credential, col(Credential.connection_id) == col(Transition.connection_id))
    .where(
        col(Transition.connection_id).in_(bindparam("ids", expanding=True)),
        col(Transition.axis) == "health",
        col(Transition.after) == _LOST,
    )
    .order_by(col(Transition.at), col(Transition.id))
)


async def only_reported(session: AsyncSession, connections: Sequence[str]) -> set[str]:
    """Those whose login somebody said to be lost, without a call of ours that was refused.

    Where there is no token, nothing could contradict it: Makini's list says nothing of a login.
    """
    last: dict[str, str] = {}
    for ids in chunked(connections, 5_000):
        rows = await session.execute(_LOSSES, {"ids": ids})
        for connection_id, source in rows:
            last[connection_id] = source
    return {each for each, source in last.items() if source not in (*CALLS, "reconnect")}


_WAITING = select(col(Outbox.ordering_key)).where(
    col(Outbox.channel) == RECONNECT,
    col(Outbox.status) == "pending",
    col(Outbox.ordering_key).in_(bindparam("ordering_keys", expanding=True)),
)
_OF_ITS_ROUND = (
    select(col(IncidentConnection.incident_id), col(IncidentConnection.connection_id))
    .join(Incident, col(Incident.id) == col(IncidentConnection.incident_id))
    .where(col(Incident.id).in_(bindparam("ids", expanding=True)), OF_ITS_ROUND)
)


async def being_checked(
    session: AsyncSession, incidents: Sequence[Incident | Row[Any]], *, now: datetime
) -> set[str]:
    """Return the lost logins of `incidents` that were only reported, and are being asked about.

    Those that were over within moments count too: whoever reported them was wrong.
    """
    young = {
        reconnect_ordering_key(incident.id): incident
        for incident in incidents
        if incident.kind == _LOST and (incident.resolved_at or now) - incident.since < CHECK_WAIT
    }
    if not young:
        return set()
    waiting = set(await session.scalars(_WAITING, {"ordering_keys": list(young)}))
    asked = [
        row.id for ordering_key, row in young.items() if row.resolved_at or ordering_key in waiting
    ]
    members = (await session.execute(_OF_ITS_ROUND, {"ids": asked})).all()
    reported = await only_reported(session, [member for _, member in members])
    known = {incident_id for incident_id, member in members if member not in reported}
    return {*asked} - known
