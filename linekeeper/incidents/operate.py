"""What operators do about trouble: acknowledge, snooze, mute, maintenance windows. Audited."""

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Literal
from uuid import NAMESPACE_OID, uuid5

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.customers.find import NotFound, find_connection, find_customer
from linekeeper.incidents.announce import announce
from linekeeper.incidents.lifecycle import IncidentChange, mark_known, perform
from linekeeper.nearest import nearest
from linekeeper.refusal import Refusal
from linekeeper.store import Store, is_id, new_id
from linekeeper.store.lists import count_rows, update_many
from linekeeper.store.tables import Audit, Connection, Incident, Reconnect, Silence

SNOOZES = ("1 hour", "4 hours", "Monday")
_MORNING = 9


class NoIncident(Exception):
    """There is no such incident, or nothing to do about it; the message says which."""


async def acknowledge(store: Store, incident_id: str, *, by: str, now: datetime) -> str:
    """Say that somebody has taken it: no run is red for it as it is now. Returns what happened;
    raises `NoIncident`.

    An incident that was acknowledged before stays with whom it was.
    """
    async with store.write() as session:
        incident = await _open(session, incident_id)
        if incident.acknowledged_at is not None:
            return f"{incident.title} was acknowledged by {incident.acknowledged_by} before"
        await perform(session, incident_id, "acknowledge", now=now, acknowledged_by=by)
        await mark_known(session, incident_id, now=now)
        session.add(Audit(at=now, by=by, action="incident.acknowledged", subject=incident_id))
        change = IncidentChange(incident_id, "acknowledged", f"Acknowledged by {by}.")
        await announce(store, session, [change], now=now)
        return f"{incident.title} is acknowledged"


async def snooze(
    store: Store,
    incident_id: str,
    choice: str,
    *,
    by: str,
    now: datetime,
    zone: tzinfo,
    press: str | None = None,
) -> str:
    """Hold reminders back for `1 hour`, `4 hours`, or until `Monday` 9:00 in `zone`.

    Runs don't turn red again for it meanwhile. The same `press` is done once. Raises `NoIncident`.
    """
    until = snooze_until(choice, now, zone)
    audited = audit_id(press, "snooze")
    async with store.write() as session:
        incident = await _open(session, incident_id)
        if await session.get(Audit, audited) is not None:
            return f"{incident.title} is snoozed"
        await perform(session, incident_id, "change", now=now, snoozed_until=until)
        await mark_known(session, incident_id, now=now)
        await session.execute(
            update_many(Reconnect)
            .where(col(Reconnect.incident_id) == incident_id)
            .values(snoozed_until=until)
        )
        session.add(
            Audit(
                id=audited,
                at=now,
                by=by,
                action="incident.snoozed",
                subject=incident_id,
                detail={"until": until.isoformat()},
            )
        )
        text = f"Snoozed by {by} until {until:%a %d %b, %H:%M %Z}."
        await announce(store, session, [IncidentChange(incident_id, "changed", text)], now=now)
        return f"{incident.title} is snoozed until {until:%a %H:%M %Z}"


async def note(
    store: Store, incident_id: str, text: str, *, by: str, now: datetime, press: str | None = None
) -> str:
    """Keep a person's note in the timeline and the thread. The same `press` is done once.

    A resolved incident takes notes too. Raises `NoIncident`.
    """
    audited = audit_id(press, "note")
    async with store.write() as session:
        incident = await _incident(session, incident_id)
        if await session.get(Audit, audited) is None:
            session.add(
                Audit(id=audited, at=now, by=by, action="incident.noted", subject=incident_id)
            )
            change = IncidentChange(incident_id, "changed", f"Note by {by}: {text}")
            await announce(store, session, [change], now=now)
        return f"noted for {incident.title}"


async def mute(store: Store, incident_id: str, hours: float, *, by: str, now: datetime) -> str:
    """Say nothing more of it for so many hours, not even of an escalation. Raises `NoIncident`.

    Its message goes on being edited, and what is still wrong then is notified again. No hours end
    a mute.
    """
    until = now + timedelta(hours=hours)
    async with store.write() as session:
        incident = await _open(session, incident_id)
        await perform(session, incident_id, "change", now=now, muted_at=now, muted_until=until)
        session.add(
            Audit(
                at=now,
                by=by,
                action="incident.muted",
                subject=incident_id,
                detail={"until": until.isoformat()},
            )
        )
        text = f"Muted by {by} until {until:%a %d %b, %H:%M} UTC."
        if not hours:
            text = f"No longer muted, by {by}."
        await announce(store, session, [IncidentChange(incident_id, "changed", text)], now=now)
        said = f"muted until {until:%a %H:%M} UTC" if hours else "no longer muted"
        return f"{incident.title} is {said}"


def snooze_until(choice: str, now: datetime, zone: tzinfo) -> datetime:
    """When a snooze ends, in `zone`. Raises `NoIncident` for a choice there isn't. Pure."""
    if choice == "1 hour":
        return (now + timedelta(hours=1)).astimezone(zone)
    if choice == "4 hours":
        return (now + timedelta(hours=4)).astimezone(zone)
    if choice == "Monday":
        local = now.astimezone(zone)
        day = local + timedelta(days=7 - local.weekday())
        return day.replace(hour=_MORNING, minute=0, second=0, microsecond=0)
    raise NoIncident(f"there is no snooze {choice!r}; there are {', '.join(SNOOZES)}")


def audit_id(press: str | None, action: str) -> str:
    """The id of the audit entry of an action: of the same press the same one. Pure."""
    return new_id() if press is None else str(uuid5(NAMESPACE_OID, f"{press}:{action}"))


async def _open(session: AsyncSession, incident_id: str) -> Incident:
    incident = await _incident(session, incident_id)
    if incident.resolved_at is not None:
        raise NoIncident(f"{incident.title} is resolved already")
    return incident


async def _incident(session: AsyncSession, incident_id: str) -> Incident:
    incident = None
    if is_id(incident_id):
        incident = await session.get(Incident, incident_id, with_for_update=True)
    if incident is None:
        raise NoIncident(f"there is no incident {incident_id}")
    return incident


Scope = Literal["connection", "customer", "provider", "all"]
Kind = Literal["maintenance", "mute"]
LONGEST = timedelta(days=90)
FARTHEST = timedelta(days=366)
"""How far ahead a window may begin."""


class BadWindow(Refusal):
    """The window makes no sense; the message says why."""


@dataclass(frozen=True, slots=True)
class WindowSubject:
    """What a window is about; `label` is what people call it, `reach` how many connections."""

    scope: Scope
    id: str
    label: str
    reach: int

    @property
    def named(self) -> str:
        """Return the name as the audit has it."""
        return f"{self.scope}:{self.id}" if self.id else self.scope


async def find_subject(session: AsyncSession, scope: Scope, wanted: str) -> WindowSubject:
    """What `wanted` names. Raises `NotFound` with the nearest names, or `BadWindow`."""
    if scope == "all" and wanted.strip():
        raise BadWindow("subject", "leave it empty for all, or say that it covers one of them only")
    if scope == "all":
        return WindowSubject(scope, "", "everything", await _count(session))
    if scope == "connection":
        connection = await find_connection(session, wanted)
        return WindowSubject(scope, connection.id, connection.label, 1)
    if scope == "customer":
        customer = await find_customer(session, wanted)
        reach = await _count(session, col(Connection.customer_id) == customer.id)
        return WindowSubject(scope, customer.id, customer.name, reach)
    providers = list(await session.scalars(select(col(Connection.provider)).distinct()))
    known = {provider.casefold(): provider for provider in providers if provider}
    provider = known.get(wanted.strip().casefold())
    if provider is None:
        offers = nearest(wanted, {name: name for name in known.values()}) or "none is known"
        raise NotFound(f"no provider is called {wanted.strip()!r}. The nearest: {offers}")
    return WindowSubject(
        scope, provider, provider, await _count(session, col(Connection.provider) == provider)
    )


async def begin(
    store: Store,
    scope: Scope,
    wanted: str,
    *,
    kind: Kind,
    starts_at: datetime,
    lasts: timedelta,
    by: str,
    reason: str,
    now: datetime,
) -> WindowSubject:
    """Observe and record trouble of what is named, but notify nobody, from `starts_at` on.

    Nothing reaches back: a window begins now at the earliest. Raises `NotFound` or `BadWindow`.
    """
    if not timedelta() < lasts <= LONGEST:
        raise BadWindow(
            "hours", f"it must end: after more than nothing and at most {LONGEST.days} days"
        )
    if starts_at > now + FARTHEST:
        raise BadWindow("starts", f"it is more than {FARTHEST.days} days ahead")
    starts_at = max(starts_at, now)
    ends_at = starts_at + lasts
    async with store.write() as session:
        subject = await find_subject(session, scope, wanted)
        session.add(
            Silence(
                id=new_id(),
                kind=kind,
                scope=scope,
                subject=subject.id,
                label=subject.label,
                starts_at=starts_at,
                ends_at=ends_at,
                by=by,
                reason=reason,
            )
        )
        detail = {"until": ends_at.isoformat(), "from": starts_at.isoformat(), "reason": reason}
        session.add(
            Audit(at=now, by=by, action=f"{kind}.begun", subject=subject.named, detail=detail)
        )
    return subject


async def end(
    store: Store, scope: Scope, wanted: str, *, by: str, now: datetime
) -> tuple[WindowSubject, int]:
    """End what windows and mutes there are of exactly what is named; returns how many there were.

    What is still wrong then is notified. Raises `NotFound`.
    """
    async with store.write() as session:
        subject = await find_subject(session, scope, wanted)
        ended = await session.scalars(
            update(Silence)
            .where(
                col(Silence.scope) == scope,
                col(Silence.subject) == subject.id,
                col(Silence.ends_at) > now,
                col(Silence.ended_at).is_(None),
            )
            .values(ended_at=now)
            .returning(col(Silence.id))
        )
        count = len(ended.all())
        if count:
            action, detail = "maintenance.ended", {"windows": count}
            session.add(Audit(at=now, by=by, action=action, subject=subject.named, detail=detail))
    return subject, count


async def _count(session: AsyncSession, *where: ColumnElement[bool]) -> int:
    return await count_rows(session, Connection, col(Connection.setup) != "disconnected", *where)
