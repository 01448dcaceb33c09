"""One Makini app as a whole: its circuit, and the incident of a list that can't be read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.incidents.announce import announce
from linekeeper.incidents.changes import IncidentChange
from linekeeper.makini import (
    AppCircuit,
    CircuitState,
    ErrorKind,
    MakiniError,
    after_failure,
    begin_probe,
    may_call,
)
from linekeeper.store import Store, new_id
from linekeeper.store.tables import AppState, Incident
from linekeeper.store.upsert import insert_ignore

TOPIC = "list"


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
            f"{circuit.failures} failures in a row",
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
    cause = f"app:{app.name}:list"
    async with store.write() as session:
        opened = await session.scalar(
            select(col(Incident.id)).where(
                col(Incident.cause) == cause, col(Incident.resolved_at).is_(None)
            )
        )
        if opened is not None:
            return
        incident = Incident(
            id=new_id(),
            topic=TOPIC,
            kind="list_failed",
            scope="app",
            cause=cause,
            app=app.name,
            title=f"app {app.name} · connection list",
            opened_at=now,
            detail={
                "message": str(error),
                "code": error.code or error.kind.value,
                "request_id": error.request_id,
            },
        )
        session.add(incident)
        await session.flush()
        change = IncidentChange(incident.id, "opened", f"The connection list failed: {error}")
        await announce(store, session, [change], now=now)


async def list_worked(store: Store, app: AppConfig, *, now: datetime) -> None:
    """Resolve the incident of a list that can be read again."""
    async with store.read() as session:
        incident = await session.scalar(_open_list_incident(app.name))
    if incident is None:
        return
    async with store.write() as session:
        resolved = await session.scalar(
            update(Incident)
            .where(col(Incident.id) == incident, col(Incident.resolved_at).is_(None))
            .values(status="resolved", resolved_at=now)
            .returning(col(Incident.id))
        )
        if resolved is not None:
            change = IncidentChange(resolved, "resolved", "The connection list can be read again")
            await announce(store, session, [change], now=now)


def _open_list_incident(app: str) -> Any:
    return select(col(Incident.id)).where(
        col(Incident.cause) == f"app:{app}:list", col(Incident.resolved_at).is_(None)
    )


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
    )


async def _write(store: Store, app: str, circuit: AppCircuit) -> None:
    row = {
        "state": circuit.state.value,
        "failures": circuit.failures,
        "opened_at": circuit.opened_at.isoformat() if circuit.opened_at else None,
        "retry_at": circuit.retry_at.isoformat() if circuit.retry_at else None,
    }
    async with store.write() as session:
        await insert_ignore(store, session, AppState, [{"app": app, "budget": {}, "circuit": {}}])
        await session.execute(update(AppState).where(col(AppState.app) == app).values(circuit=row))


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
