"""The credit ledger at work: what is set aside, taken, returned; checked against Makini's list."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from types import MappingProxyType

from sqlalchemy import Date, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.credits import queries
from linekeeper.credits.decide import (
    Balance,
    CreditError,
    Fit,
    Leak,
    LedgerEntry,
    Listed,
    Override,
    PlannedConnection,
    Week,
    adjust,
    balance,
    by_subject,
    consume,
    find_leaks,
    need_by_week,
    refund,
    reserve,
    will_it_fit,
)
from linekeeper.credits.tariff import Charge, apply_defaults, cost_of
from linekeeper.store import Store
from linekeeper.store.tables import (
    Audit,
    Connection,
    CreditEntry,
    Customer,
    Implementation,
    ImplementationSystem,
)
from linekeeper.text import counted

MAX_BOUGHT = 1_000_000


@dataclass(frozen=True, slots=True)
class Reservation:
    """Credits to set aside for one planned connection."""

    subject: str
    cost: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger as it stands: every figure is an estimate of ours."""

    balance: Balance
    known: bool
    """Whether anybody said how many credits were bought."""
    weeks: tuple[Week, ...]
    leaks: tuple[Leak, ...]


async def fit(
    session: AsyncSession,
    costs: Sequence[int],
    override: Override | None,
    *,
    app: str,
) -> Fit:
    """Whether connections of `app` that cost `costs` may be planned (MISSION B8).

    Nothing is refused while nobody has said how many credits were bought.
    """
    entries = await queries.sums(session, app)
    if not _is_known(entries):
        return Fit(
            True,
            f"It needs {counted(sum(costs), 'credit')} (estimate); how many were bought nobody "
            "has said: say so in the form of the deployment credits.",
        )
    return will_it_fit(balance(entries).available, costs, override)


async def set_aside(
    session: AsyncSession,
    reservations: Sequence[Reservation],
    *,
    app: str,
    implementation_id: str,
    by: str,
    note: str,
    now: datetime,
) -> None:
    """Reserve credits for planned connections; one that holds some already is left alone."""
    entries = await queries.entries_of(session, [planned.subject for planned in reservations])
    new = [row for each in reservations for row in reserve(entries, each.subject, each.cost, now)]
    await queries.post(session, new, app=app, by=by, note=note, implementation_id=implementation_id)


async def consume_on_connect(
    store: Store,
    session: AsyncSession,
    connection_id: str,
    cost: int,
    *,
    app: str,
    planned: str | None = None,
    implementation_id: str | None = None,
    by: str,
    now: datetime,
    note: str = "",
) -> int:
    """The connection is established: it takes its credits, and what `planned` held is released.

    Doing it again changes nothing. Returns how many entries were written.
    """
    await queries.lock_ledger(store, session)
    subjects = [connection_id] if planned is None else [connection_id, planned]
    entries = await queries.entries_of(session, subjects)
    released = refund(entries, planned, now) if planned is not None else ()
    return await queries.post(
        session,
        (*released, *consume(entries, connection_id, cost, now)),
        app=app,
        by=by,
        note=note,
        connection_id=connection_id,
        implementation_id=implementation_id,
    )


async def return_credits(
    store: Store,
    session: AsyncSession,
    connection_id: str,
    *,
    app: str,
    by: str,
    now: datetime,
    note: str = "",
) -> int:
    """The connection was disconnected: what it holds comes back. Returns how many credits.

    Doing it again changes nothing.
    """
    await queries.lock_ledger(store, session)
    entries = await queries.entries_of(session, [connection_id])
    back = refund(entries, connection_id, now)
    await queries.post(session, back, app=app, by=by, note=note, connection_id=connection_id)
    return sum(entry.delta for entry in back)


async def release(
    store: Store,
    session: AsyncSession,
    subjects: Sequence[str],
    *,
    app: str,
    implementation_id: str,
    by: str,
    now: datetime,
) -> None:
    """Planned connections will not come: their reservations end."""
    await queries.lock_ledger(store, session)
    entries = await queries.entries_of(session, subjects)
    back = [entry for subject in subjects for entry in refund(entries, subject, now)]
    await queries.post(session, back, app=app, by=by, implementation_id=implementation_id)


async def set_bought(
    store: Store, bought: int, *, by: str, now: datetime, app: str = "default"
) -> int:
    """Record that the account `app` holds `bought` credits in all; returns the change.

    Raises `CreditError` with field and reason.
    """
    if not 0 <= bought <= MAX_BOUGHT:
        raise CreditError("bought", f"{bought} is outside 0 to {MAX_BOUGHT:,}")
    if not by.strip():
        raise CreditError("by", "say who you are: it is kept in the audit")
    async with store.write() as session:
        await queries.lock_ledger(store, session)
        entries = await queries.sums(session, app)
        delta = bought - balance(entries).granted
        if delta or not _is_known(entries):
            entry = LedgerEntry(None, delta, "grant", now)
            await queries.post(session, [entry], app=app, by=by, note=f"{bought} in all")
            session.add(
                Audit(
                    at=now,
                    by=by,
                    action="credits.bought",
                    subject="credits",
                    detail={"app": app, "bought": bought, "change": delta},
                )
            )
            await session.flush()
    return delta


async def check(
    store: Store,
    *,
    now: datetime,
    app: str = "default",
    tariffs: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Leak, ...]:
    """Compare the ledger of `app` with the live list, then let the ledger follow it.

    A connection the ledger didn't know takes its credits now; one that is gone, or was replaced,
    returns them; one that costs more or less than was booked takes the difference. What nobody
    said of a connection's tier and hosting, the table `tariffs` says by its provider. Returns what
    didn't agree, and what costs credits and does nothing.
    """
    async with store.write() as session:
        await queries.lock_ledger(store, session)
        await apply_defaults(session, app, tariffs)
        entries = await queries.sums(session, app)
        listed, gone = await _live(session, app)
        leaks = find_leaks(entries, listed)
        # Makini charges for one that is connected twice, too.
        charged = {leak.subject for leak in leaks if leak.kind in ("not in ledger", "duplicate")}
        posted = by_subject(entries)
        booked: dict[str, list[LedgerEntry]] = {}
        for charge in listed:
            subject, own = charge.subject, posted.get(charge.subject, [])
            if subject in charged and not balance(own).consumed:
                due, note = consume(own, subject, charge.cost, now), "in Makini's list"
            else:
                due = adjust(own, subject, charge.cost, now)
                note = f"it is charged as {charge.charged_as}"
            booked.setdefault(note, []).extend(due)
        booked["replaced, or gone from Makini's list"] = [
            entry
            for leak in leaks
            if leak.kind == "not at Makini" and leak.subject in gone
            for entry in refund(posted[leak.subject], leak.subject, now)
        ]
        for note, changes in booked.items():
            await queries.post(
                session, changes, app=app, by="credits", note=note, of_connections=True
            )
    return leaks


async def ledger(store: Store, *, today: date, app: str | None = None) -> Ledger:
    """Balance, the need by week, and what leaks: of one app, or of all together."""
    async with store.read() as session:
        entries = await queries.sums(session, app)
        listed, _ = await _live(session, app)
        planned = await _planned(session, app)
    return Ledger(
        balance=balance(entries),
        known=_is_known(entries),
        weeks=need_by_week(entries, planned, today),
        leaks=find_leaks(entries, listed),
    )


async def ledger_apps(store: Store) -> list[str]:
    """The apps that have a ledger, `default` first."""
    async with store.read() as session:
        booked = set(await session.scalars(select(col(CreditEntry.app)).distinct()))
        listed = set(await session.scalars(select(col(Connection.app)).distinct()))
    return sorted({"default", *booked, *listed}, key=lambda app: (app != "default", app))


def _is_known(entries: Sequence[LedgerEntry]) -> bool:
    return any(entry.reason == "grant" for entry in entries)


async def _live(session: AsyncSession, app: str | None) -> tuple[list[Listed], set[str]]:
    """Connections as Makini listed them last, and the ids of those that are disconnected."""
    rows = await session.execute(
        select(
            col(Connection.id),
            col(Customer.name),
            col(Connection.provider),
            col(Connection.name),
            col(Connection.list_status),
            col(Connection.tier),
            col(Connection.hosting),
            col(Connection.created_at),
            col(Connection.setup),
        )
        .outerjoin(Customer, col(Customer.id) == col(Connection.customer_id))
        .where(*([] if app is None else [col(Connection.app) == app]))
    )
    listed: list[Listed] = []
    gone: set[str] = set()
    for row in rows:
        if row[8] == "disconnected":
            gone.add(row[0])
            continue
        listed.append(
            Listed(
                subject=row[0],
                customer=row[1] or "",
                provider=row[2],
                name=row[3],
                status=row[4] or "pending",
                cost=cost_of(row[5], row[6]),
                charged_as=str(Charge(row[5], row[6])),
                since=row[7],
            )
        )
    return listed, gone


async def _planned(session: AsyncSession, app: str | None) -> list[PlannedConnection]:
    """Connections that implementations on their way still expect, when their login is likely."""
    rows = await session.execute(
        select(
            col(ImplementationSystem.id),
            col(ImplementationSystem.cost),
            func.coalesce(
                col(ImplementationSystem.connects), col(Implementation.kickoff), type_=Date
            ),
        )
        .join(Implementation, col(Implementation.id) == col(ImplementationSystem.implementation_id))
        .where(
            col(Implementation.status).in_(("running", "held")),
            col(ImplementationSystem.connection_id).is_(None),
            *([] if app is None else [col(Implementation.app) == app]),
        )
    )
    return [PlannedConnection(row[0], row[1], row[2]) for row in rows]
