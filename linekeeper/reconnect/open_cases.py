"""All open cases at once, as far as time brings something to them: one statement for all."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, exists, select
from sqlmodel import col

from linekeeper.access.pending import SUPERSEDED
from linekeeper.customers.naming import label
from linekeeper.customers.setup import MADE_AT
from linekeeper.health.token_missing import is_token_missing
from linekeeper.reconnect.case import KIND, is_unsettled
from linekeeper.reconnect.remind import DEADLINE, asked_since
from linekeeper.store import Store
from linekeeper.store.modes import UNSAID, Chosen
from linekeeper.store.tables import (
    Connection,
    ConnectLink,
    Customer,
    Implementation,
    ImplementationSystem,
    Incident,
    IncidentConnection,
    PendingLogin,
    Reconnect,
)
from linekeeper.store.types import from_row


@dataclass(frozen=True, slots=True)
class WaitingMember:
    """A connection whose customer was asked to log in and hasn't yet."""

    connection_id: str
    label: str
    customer_id: str | None
    time_zone: str
    asked_since: datetime
    """The time from which its reminders and its deadline count."""
    reminded: int
    """The last step that was taken (`linekeeper.reconnect.remind`)."""
    chosen: Chosen = UNSAID
    """What the rules say of its mode."""
    has_logged_in: bool = False
    """Somebody has; it could not be verified yet."""
    token_missing: bool = False
    """It was made anew at Makini itself: its customer is asked once (`mails.ask_once`)."""

    def is_late(self, now: datetime) -> bool:
        """Whether its deadline has passed."""
        return now >= self.asked_since + DEADLINE


@dataclass(frozen=True, slots=True)
class OpenCase:
    """A case that a run should be working on."""

    incident_id: str
    app: str
    is_open: bool
    """Whether the incident is open and about lost logins."""
    is_unsettled: bool
    """Whether nothing says at present that the logins are back, or that they are lost."""
    over_at: datetime
    """When the incident was resolved, or when waiting ends."""
    attempt: int
    run_id: str | None
    opened_at: datetime
    snoozed_until: datetime | None
    woken_at: datetime | None
    outcome: str | None
    waiting: Sequence[WaitingMember]
    """Those whose customers we notify; nobody is asked before the go-live."""


_CAME_WITH = and_(
    col(Implementation.id) == col(ImplementationSystem.implementation_id),
    col(Implementation.started_at) <= MADE_AT,
    col(Implementation.status) != "abandoned",
)
_LIVE_AT = (
    select(col(Implementation.live_at))
    .join(ImplementationSystem, _CAME_WITH)
    .where(col(ImplementationSystem.connection_id) == col(Connection.id))
    .order_by(col(Implementation.live_at).desc())
    .limit(1)
    .scalar_subquery()
)
_IS_IMPLEMENTED = exists().where(
    _CAME_WITH,
    col(ImplementationSystem.connection_id) == col(Connection.id),
    col(Implementation.live_at).is_(None),
)
_HAS_LOGGED_IN = exists().where(
    col(PendingLogin.link_id) == col(ConnectLink.id),
    col(ConnectLink.connection_id) == col(Connection.id),
    ~SUPERSEDED,
)
_CASES = (
    select(
        col(Incident.id),
        col(Incident.app),
        col(Incident.kind),
        col(Incident.resolved_at),
        col(Reconnect.deadline_at),
        col(Reconnect.attempt),
        col(Reconnect.run_id),
        col(Reconnect.opened_at),
        col(Reconnect.snoozed_until),
        col(Reconnect.woken_at),
        col(Reconnect.outcome),
        col(Connection.id).label("connection_id"),
        col(Connection.provider),
        col(Connection.name),
        col(Connection.told_apart_by),
        col(Connection.mode),
        col(Connection.notify_customers),
        col(Connection.judged),
        col(Customer.id).label("customer_id"),
        col(Customer.name).label("customer"),
        col(Customer.time_zone),
        col(IncidentConnection.joined_at),
        col(IncidentConnection.reminded),
        _LIVE_AT.label("live_at"),
        _HAS_LOGGED_IN.label("has_logged_in"),
    )
    .join(Reconnect, col(Reconnect.incident_id) == col(Incident.id))
    .outerjoin(
        IncidentConnection,
        and_(
            col(IncidentConnection.incident_id) == col(Incident.id),
            col(IncidentConnection.left_at).is_(None),
        ),
    )
    .outerjoin(
        Connection,
        and_(
            col(Connection.id) == col(IncidentConnection.connection_id),
            col(Connection.health) == KIND,
            col(Connection.setup) != "disconnected",
            ~_IS_IMPLEMENTED,
        ),
    )
    .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
    .where(col(Reconnect.closed_at).is_(None))
    .order_by(col(Incident.id), col(IncidentConnection.id))
)


async def load_open_cases(store: Store) -> list[OpenCase]:
    """Every case a run should be working on, with those who still have to log in."""
    async with store.read() as session:
        rows = (await session.execute(_CASES)).all()
    cases: dict[str, OpenCase] = {}
    waiting: dict[str, list[WaitingMember]] = {}
    for row in rows:
        if row.id not in cases:
            waiting[row.id] = []
            cases[row.id] = from_row(
                OpenCase,
                row,
                incident_id=row.id,
                is_open=row.resolved_at is None and row.kind == KIND,
                is_unsettled=is_unsettled(row.kind, row.resolved_at),
                over_at=row.resolved_at or row.deadline_at,
                waiting=waiting[row.id],
            )
        if row.connection_id is not None:
            waiting[row.id].append(
                from_row(
                    WaitingMember,
                    row,
                    label=label(row.customer, row.provider, row.name, row.told_apart_by),
                    time_zone=row.time_zone or "UTC",
                    asked_since=asked_since(row.opened_at, row.joined_at, row.live_at),
                    chosen=Chosen(row.mode, row.notify_customers),
                    token_missing=is_token_missing(row.judged),
                )
            )
    return list(cases.values())
