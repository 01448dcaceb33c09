"""One incident of lost logins, as everybody who works on it sees it: read from the database."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.access.links import links_of_lost_logins
from linekeeper.access.pending import kept_logins
from linekeeper.config import AppConfig
from linekeeper.customers.naming import label
from linekeeper.customers.successors import last_successors
from linekeeper.health.evidence import Health
from linekeeper.health.token_missing import is_token_missing
from linekeeper.incidents.suppressed import implemented
from linekeeper.reconnect.remind import DEADLINE
from linekeeper.store import Store, is_id
from linekeeper.store.lists import is_listed
from linekeeper.store.modes import UNSAID, Chosen, app_of
from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    IncidentConnection,
    Reconnect,
)
from linekeeper.store.types import Id, from_row

KIND = Health.reauthorization_required.value
_STOPPED = ("given_up", "not_in_time")
UNSETTLED = (Health.unknown.value, Health.unreachable.value)
"""What an incident of lost logins may become while nothing says whether they are back."""


def is_unsettled(kind: str, resolved_at: datetime | None) -> bool:
    """Whether a lost login is neither back nor surely lost: its case waits as before. Pure."""
    return resolved_at is None and kind in UNSETTLED


@dataclass(frozen=True, slots=True)
class Member:
    """A connection of the case."""

    connection_id: str
    app: str
    slug: str
    label: str
    system: str
    health: str
    health_since: datetime
    last_good_at: datetime | None
    setup: str
    customer_id: str | None
    customer: str | None
    customer_slug: str | None
    link_id: str | None
    """Its newest link for a lost login that still works; one that somebody made by hand, or that
    came with the end of a login, doesn't stand for having been asked."""
    live: bool
    """Whether it is in the incident now."""
    joined_at: datetime
    """When it came into the incident, last."""
    asked_in: str | None = None
    """The incident that link was made in: it may have gone on in this one since."""
    disappeared: bool = False
    """Makini's list lacks it, which is an incident of its own."""
    implementing: bool = False
    """Its go-live is ahead: whoever implements it speaks with the customer, no mail of ours."""
    chosen: Chosen = UNSAID
    """What the rules say of its mode."""
    has_logged_in: bool = False
    """Somebody has; it could not be verified yet."""
    is_being_verified: bool = False
    """Somebody has within the last hour: whether it works is being found out."""
    token_missing: bool = False
    """It was made anew at Makini itself, and Linekeeper has no token of it."""
    successor_waits: bool = False
    """A connection that took its place has lost its login, which is an incident of its own."""

    @property
    def waits(self) -> bool:
        """Whether its customer still has to log in."""
        return self.health == KIND and self.setup != "disconnected"


@dataclass(frozen=True, slots=True)
class Case:
    """The incident, what is being done about it, and its connections, those who left included."""

    incident: Incident
    reconnect: Reconnect | None
    members: Sequence[Member]

    @property
    def is_open(self) -> bool:
        """Whether the incident is open and about lost logins."""
        return self.incident.resolved_at is None and self.incident.kind == KIND

    @property
    def is_unsettled(self) -> bool:
        """Whether nothing says at present that the logins are back, or that they are lost."""
        return is_unsettled(self.incident.kind, self.incident.resolved_at)

    @property
    def is_working(self) -> bool:
        """Whether a run should be working on it."""
        return self.reconnect is not None and self.reconnect.closed_at is None

    @property
    def has_stopped(self) -> bool:
        """Whether time or people ended it while somebody still had to log in."""
        return (
            self.reconnect is not None
            and self.reconnect.closed_at is not None
            and self.reconnect.outcome in _STOPPED
        )

    @property
    def waits_anew(self) -> bool:
        """Whether somebody has to log in of whom it was not given up, and whose time is not over.

        They came into the incident since; also into one that was over and is open again.
        """
        reconnect = self.reconnect
        if reconnect is None or reconnect.closed_at is None:
            return False
        since = reconnect.closed_at
        if reconnect.outcome == "not_in_time":
            since -= DEADLINE
        return any(member.joined_at > since for member in self.waiting)

    @property
    def waiting(self) -> list[Member]:
        """Those whose customers still have to log in, in this incident."""
        return [member for member in self.members if member.waits and member.live]

    @property
    def after_go_live(self) -> list[Member]:
        """Those of `waiting` whose go-live isn't ahead."""
        return [member for member in self.waiting if not member.implementing]

    def to_ask(self, app: AppConfig) -> list[Member]:
        """Those of `waiting` for whom links are made: they are live, and managed."""
        return [m for m in self.after_go_live if app_of(app, m.chosen).manages]

    @property
    def moved(self) -> bool:
        """Whether what is still lost is another incident's concern now."""
        if self.is_open:
            return False
        waits = any(member.waits or member.successor_waits for member in self.members)
        gone = [member for member in self.members if member.disappeared]
        return waits or (bool(gone) and len(gone) == len(self.members))


def customers_of(members: Iterable[Member], app: AppConfig) -> list[str]:
    """The customers of `members` that are written to, each once. Pure."""
    customers = [m.customer_id for m in members if app_of(app, m.chosen).writes_to_customers]
    return list(dict.fromkeys(customer for customer in customers if customer))


async def load_case(
    store: Store, incident_id: str, *, now: datetime, session: AsyncSession | None = None
) -> Case | None:
    """The case of an incident; None if there is no such incident.

    With a `session` it is read there, the incident's row locked.
    """
    if not is_id(incident_id):
        return None
    if session is not None:
        return await _load(session, incident_id, now, lock=True)
    async with store.read() as reading:
        return await _load(reading, incident_id, now, lock=False)


_OF_INCIDENT: Any = bindparam("incident", type_=Id)
_INCIDENT = select(Incident).where(col(Incident.id) == _OF_INCIDENT)
_INCIDENT_LOCKED = _INCIDENT.with_for_update()
_MEMBERS = (
    select(
        Connection,
        Customer,
        col(IncidentConnection.left_at),
        col(IncidentConnection.joined_at),
    )
    .join(IncidentConnection, col(IncidentConnection.connection_id) == col(Connection.id))
    .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
    .where(col(IncidentConnection.incident_id) == _OF_INCIDENT)
    .order_by(col(IncidentConnection.left_at).nulls_last(), col(IncidentConnection.id))
)


async def _load(
    session: AsyncSession, incident_id: str, now: datetime, *, lock: bool
) -> Case | None:
    about = {"incident": incident_id}
    incident = await session.scalar(_INCIDENT_LOCKED if lock else _INCIDENT, about)
    if incident is None:
        return None
    reconnect = await session.get(Reconnect, incident_id)
    rows = (await session.execute(_MEMBERS, about)).all()
    ids = [row[0].id for row in rows]
    links = await links_of_lost_logins(session, ids, now)
    underway = await implemented(session, ids)
    kept = await kept_logins(session, ids)
    successors = await last_successors(session, [row[0] for row in rows])
    members: dict[str, Member] = {}
    for connection, customer, left_at, joined_at in rows:
        came_with = underway.get(connection.id)
        link_id, asked_in = links.get(connection.id, (None, None))
        members[connection.id] = from_row(
            Member,
            connection,
            connection_id=connection.id,
            label=label(
                customer.name if customer else None,
                connection.provider,
                connection.name,
                connection.told_apart_by,
            ),
            system=connection.provider or connection.name,
            customer_id=customer.id if customer else None,
            customer=customer.name if customer else None,
            customer_slug=customer.slug if customer else None,
            link_id=link_id,
            live=left_at is None,
            joined_at=joined_at,
            asked_in=asked_in,
            disappeared=connection.disappeared_at is not None,
            implementing=came_with is not None and came_with.live_at is None,
            chosen=Chosen(connection.mode, connection.notify_customers),
            has_logged_in=connection.id in kept,
            is_being_verified=connection.id in kept and kept[connection.id].is_being_verified(now),
            token_missing=is_token_missing(connection.judged),
            successor_waits=_is_lost(successors.get(connection.id)),
        )
    return Case(incident, reconnect, list(members.values()))


def _is_lost(connection: Connection | None) -> bool:
    return (
        connection is not None and connection.health == KIND and connection.setup != "disconnected"
    )


def how_it_ended(case: Case) -> str:
    """What ended a case that is over, and what people can still do about it. Pure."""
    reconnect = case.reconnect
    closed = "" if reconnect is None or reconnect.closed_at is None else reconnect.closed_at
    on = f" on {closed:%Y-%m-%d %H:%M} UTC" if closed else ""
    if not case.has_stopped:
        moved = reconnect is not None and reconnect.outcome == "moved"
        goes_on = "it goes on in another incident" if moved else "nothing is left to do"
        return f"This reconnect ended{on}: {goes_on}"
    assert reconnect is not None  # it has stopped
    why = (
        f"nobody logged in within {DEADLINE.days} days"
        if reconnect.outcome == "not_in_time"
        else "it was given up"
    )
    return (
        f"This reconnect ended{on}: {why}. No more mails are sent, and the incident stays open. "
        "Call the customer, and pass on a connect link: run `connect`. Once somebody has logged "
        "in, another run verifies the login, backfills what was missed, and resolves the incident"
    )


async def incident_of_run(store: Store, run_id: str) -> str | None:
    """The incident whose case Prefect's run `run_id` works on, or did before another took it."""
    before = is_listed(store, Reconnect.replaced_runs, run_id)
    async with store.read() as session:
        return await session.scalar(
            select(col(Reconnect.incident_id)).where(or_(col(Reconnect.run_id) == run_id, before))
        )


async def open_cases(store: Store) -> list[str]:
    """The incidents a run should be working on."""
    async with store.read() as session:
        return list(
            await session.scalars(
                select(col(Reconnect.incident_id))
                .where(col(Reconnect.closed_at).is_(None))
                .order_by(col(Reconnect.incident_id))
            )
        )


async def shared_cases(store: Store) -> list[str]:
    """The incidents of `open_cases` that more than one connection is in."""
    several = (
        select(col(IncidentConnection.incident_id))
        .where(col(IncidentConnection.left_at).is_(None))
        .group_by(col(IncidentConnection.incident_id))
        .having(func.count() > 1)
    )
    async with store.read() as session:
        return list(
            await session.scalars(
                select(col(Reconnect.incident_id))
                .where(col(Reconnect.closed_at).is_(None), col(Reconnect.incident_id).in_(several))
                .order_by(col(Reconnect.incident_id))
            )
        )
