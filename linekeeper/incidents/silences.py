"""Maintenance windows and mutes: trouble is observed and recorded, not told. Audited."""

import difflib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import new_id
from linekeeper.customers.find import NotFound, find_connection, find_customer
from linekeeper.refusal import Refusal
from linekeeper.store.engine import Store
from linekeeper.store.tables import Audit, Connection, Silence

Scope = Literal["connection", "customer", "provider", "all"]
Kind = Literal["maintenance", "mute"]
LONGEST = timedelta(days=90)
FARTHEST = timedelta(days=366)
"""How far ahead a window may begin."""


class BadWindow(Refusal):
    """The window makes no sense; the message says why."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a window is about; `label` is what people call it, `reach` how many connections."""

    scope: Scope
    id: str
    label: str
    reach: int

    @property
    def named(self) -> str:
        """As the audit has it."""
        return f"{self.scope}:{self.id}" if self.id else self.scope


async def find_subject(session: AsyncSession, scope: Scope, wanted: str) -> Subject:
    """What `wanted` names. Raises `NotFound` with the nearest names."""
    if scope == "all":
        return Subject(scope, "", "everything", await _count(session))
    if scope == "connection":
        connection = await find_connection(session, wanted)
        return Subject(scope, connection.id, connection.label, 1)
    if scope == "customer":
        customer = await find_customer(session, wanted)
        reach = await _count(session, col(Connection.customer_id) == customer.id)
        return Subject(scope, customer.id, customer.name, reach)
    providers = list(await session.scalars(select(col(Connection.provider)).distinct()))
    known = {provider.casefold(): provider for provider in providers if provider}
    found = known.get(wanted.strip().casefold())
    if found is None:
        close = difflib.get_close_matches(wanted.strip().casefold(), list(known), n=5, cutoff=0.3)
        offers = "; ".join(known[key] for key in close or sorted(known)[:5]) or "none is known"
        raise NotFound(f"no provider is called {wanted.strip()!r}. The nearest: {offers}")
    return Subject(scope, found, found, await _count(session, col(Connection.provider) == found))


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
) -> Subject:
    """Observe and record, but don't tell, trouble of what is named, from `starts_at` on.

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
) -> tuple[Subject, int]:
    """End what windows and mutes there are of exactly what is named; returns how many there were.

    What is still wrong then is told. Raises `NotFound`.
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
    statement = select(func.count()).select_from(Connection)
    statement = statement.where(col(Connection.setup) != "disconnected", *where)
    return await session.scalar(statement) or 0
