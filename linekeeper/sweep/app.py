"""One Makini app as a whole: its circuit, and the incidents of its connection list."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.health.absence import Absence
from linekeeper.incidents.conclude import conclude
from linekeeper.incidents.findings import open_incident, resolve_incident, resolve_of_apps
from linekeeper.incidents.lifecycle import Opening, find_open, perform
from linekeeper.makini import (
    AppCircuit,
    CircuitState,
    ErrorKind,
    MakiniError,
    after_failure,
    begin_probe,
    may_call,
    why_held,
)
from linekeeper.runtime import Runtime
from linekeeper.store import Store
from linekeeper.store.configuration import configured_apps
from linekeeper.store.engine import insert_ignore, insert_or_update
from linekeeper.store.tables import AppAbsence, AppState, Connection, Incident
from linekeeper.store.tables.health import LIST_REFUSED

TOPIC = "list"
_REFUSALS = frozenset(
    {ErrorKind.unauthorized, ErrorKind.forbidden, ErrorKind.not_found, ErrorKind.rejected}
)


@asynccontextmanager
async def through_circuit(store: Store, app: AppConfig) -> AsyncIterator[None]:
    """Make list or token calls in the block; the app's circuit counts how it went.

    Raises `MakiniError` (`circuit_open`) at once where the circuit is open.
    """
    circuit = await _read(store, app.name)
    now = utcnow()
    if not may_call(circuit, now):
        wait = (circuit.retry_at - now).total_seconds() if circuit.retry_at else None
        raise MakiniError(
            ErrorKind.circuit_open,
            why_held(circuit),
            app=app.name,
            retry_after=wait,
        )
    if circuit.state is not CircuitState.closed:
        circuit = begin_probe(circuit, now)
        await _write(store, app.name, circuit)
    try:
        yield
    except MakiniError as error:
        await count_failure(store, app, error)
        raise
    if circuit != AppCircuit():
        await _write(store, app.name, AppCircuit())


async def count_failure(store: Store, app: AppConfig, error: MakiniError) -> None:
    """Count a failed list or token call against the app's circuit."""
    circuit = await _read(store, app.name)
    after = after_failure(circuit, error, utcnow())
    if after != circuit:
        await _write(store, app.name, after)


async def list_failed(store: Store, app: AppConfig, error: MakiniError, *, now: datetime) -> None:
    """Open the incident of an app whose list can't be read; nothing if it is open already."""
    opening = Opening(
        topic=TOPIC,
        kind="list_failed",
        scope="app",
        cause=_failed(app.name),
        app=app.name,
        title=f"app {app.name} · connection list",
        code=error.code or error.kind.value,
        message=error.brief,
        request_id=error.request_id,
        detail={LIST_REFUSED: True} if error.kind in _REFUSALS else {},
    )
    await _open(store, opening, f"The connection list failed: {error.brief}.", now=now)


async def list_worked(
    store: Store, app: AppConfig, *, now: datetime, is_whole: bool = False
) -> None:
    """Resolve the incident of a list that can be read again; where it is whole, or was accepted as
    it is, also that of one that looked truncated."""
    over = {_failed(app.name): "The connection list can be read again"}
    if is_whole:
        over[_truncated(app.name)] = "The connection list is whole again, or was accepted as it is"
    async with store.read() as session:
        ended = [cause for cause in over if await find_open(session, cause) is not None]
    if ended:
        async with store.write() as session:
            for cause in ended:
                await resolve_incident(store, session, cause, over[cause], now=now)


async def list_truncated(store: Store, app: AppConfig, absence: Absence, *, now: datetime) -> None:
    """Open the incident of a list that looks truncated, or bring its figures up to date."""
    opening = Opening(
        topic=TOPIC,
        kind="list_truncated",
        scope="app",
        cause=_truncated(app.name),
        app=app.name,
        title=f"app {app.name} · connection list: {absence.figures}",
    )
    async with store.write() as session:
        known = await find_open(session, opening.cause)
        if known is not None:
            await perform(session, known, "change", now=now, title=opening.title)
            return
    await _open(store, opening, absence.sentence, now=now)


async def close_removed(rt: Runtime, *, now: datetime) -> list[str]:
    """Resolve what is open of apps that the settings don't name any more; returns those apps.

    An app whose settings can't be read is not removed. One that comes back is watched again.
    """
    configuration = await rt.configuration()
    policy = configuration.policy
    async with rt.store.read() as session:
        known = set(await session.scalars(select(col(Connection.app)).distinct()))
        known |= set(await session.scalars(_OPEN_APPS))
        kept = {*configuration.apps, *await configured_apps(session)}
        rows = await session.execute(select(col(AppState.app), col(AppState.removed_at)))
        removed = {row[0] for row in rows if row[1] is not None}
    gone = sorted(known - kept - removed)
    back = sorted(removed & kept)
    if not (gone or back):
        return []
    async with rt.store.write() as session:
        for app in gone:
            row = {"app": app, "budget": {}, "circuit": {}, "removed_at": now}
            await insert_or_update(
                rt.store, session, AppState, [row], key=["app"], update=["removed_at"]
            )
        await _come_back(session, back, now=now)
        await conclude(rt.store, session, policy=policy, now=now)
        text = "The app was taken out of the settings: it is not watched any more"
        await resolve_of_apps(rt.store, session, gone, text, now=now)
    return gone


async def _come_back(session: AsyncSession, apps: Sequence[str], *, now: datetime) -> None:
    """Note that `apps` are watched again, and since when they were not."""
    were_out = (col(AppState.app).in_(apps), col(AppState.removed_at).is_not(None))
    rows = await session.execute(
        select(col(AppState.app), col(AppState.removed_at)).where(*were_out)
    )
    session.add_all(
        AppAbsence(app=app, since=since, until=max(since, now))
        for app, since in rows
        if since is not None
    )
    await session.execute(update(AppState).where(*were_out).values(removed_at=None))


_OPEN_APPS = (
    select(col(Incident.app))
    .where(col(Incident.resolved_at).is_(None), col(Incident.app) != "")  # of Linekeeper itself
    .distinct()
)


def _failed(app: str) -> str:
    return f"app:{app}:list"


def _truncated(app: str) -> str:
    return f"app:{app}:list_truncated"


async def _open(store: Store, opening: Opening, text: str, *, now: datetime) -> None:
    async with store.read() as session:
        if await find_open(session, opening.cause) is not None:
            return
    async with store.write() as session:
        await open_incident(store, session, opening, text, now=now)


async def _read(store: Store, app: str) -> AppCircuit:
    async with store.read() as session:
        row = await session.scalar(select(col(AppState.circuit)).where(col(AppState.app) == app))
    if not row:
        return AppCircuit()
    return AppCircuit(
        CircuitState(row["state"]),
        row["failures"],
        _time(row["opened_at"]),
        _time(row["retry_at"]),
        row.get("cause", ""),
    )


async def _write(store: Store, app: str, circuit: AppCircuit) -> None:
    row = {
        "state": circuit.state.value,
        "failures": circuit.failures,
        "opened_at": circuit.opened_at.isoformat() if circuit.opened_at else None,
        "retry_at": circuit.retry_at.isoformat() if circuit.retry_at else None,
        "cause": circuit.cause,
    }
    async with store.write() as session:
        await insert_ignore(store, session, AppState, [{"app": app, "budget": {}, "circuit": {}}])
        await session.execute(update(AppState).where(col(AppState.app) == app).values(circuit=row))


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
