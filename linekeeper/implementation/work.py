"""The run that does the work of a gate: `authentication-setup` or `workflow-configuration`.

A gate of a system has one such run at a time. Linekeeper starts it as soon as the gate is open;
one that somebody started by hand is the gate's run as well, and replaces the other.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.implementation import news, queries
from linekeeper.implementation.evaluate import SETTLED
from linekeeper.implementation.plan import PlannedGate, Work
from linekeeper.implementation.standing import Standing
from linekeeper.outbox.queue import Message
from linekeeper.store import Store, is_id
from linekeeper.store.tables import (
    AuthenticationSetup,
    ConnectLink,
    Gate,
    ImplementationSystem,
    Outbox,
)

Claim = Literal["ours", "taken", "settled"]
"""Whether a run does the work of its gate: another run may do it, or nothing may be left to do."""
BY_LINEKEEPER = "Linekeeper"


def due(standing: Standing) -> list[Gate]:
    """The open gates whose work can begin and has no run yet. Pure."""
    if standing.implementation.status != "running":
        return []
    return [
        row
        for gate in standing.plan.gates
        if (row := standing.gates[gate.id]).work_attempt == 0
        and row.work_run_id is None
        and _can_run(standing, gate, row)
    ]


def _can_run(standing: Standing, gate: PlannedGate, row: Gate) -> bool:
    if gate.work is None or row.status not in ("open", "blocked"):
        return False
    system = standing.system(gate.system)
    is_connected = system is not None and system.connection_id is not None
    return gate.work == "authentication-setup" or is_connected


def start_next(standing: Standing, row: Gate) -> Message:
    """Start the run of the gate's next attempt; `row` counts it."""
    row.work_attempt += 1
    row.work_run_id, row.work_at, row.is_work_over = None, None, False
    [gate] = [gate for gate in standing.plan.gates if gate.id == row.gate]
    system, implementation, key = standing.system(gate.system), standing.implementation, key_of(row)
    assert system is not None  # only gates of a system have such a run
    parameters: dict[str, Any] = (
        {"implementation": implementation.slug, "system": system.name}
        if gate.work == "authentication-setup"
        else {"connection": system.connection_id}
    )
    payload = {
        "deployment": gate.work,
        "idempotency_key": key,
        "name": news.run_name(standing, row),
        "parameters": {**parameters, "by": BY_LINEKEEPER},
        "tags": news.tags(standing, row),
    }
    return Message("run", key, payload)


def end(row: Gate, at: datetime) -> Message | None:
    """Have the run look at its gate, which was settled, or taken by another run; None without."""
    if row.work_run_id is None or row.is_work_over:
        return None
    return Message(
        "run",
        f"{key_of(row)}:end:{row.work_run_id}:{row.changes}",
        {"resume": row.work_run_id, "answer": {"by": BY_LINEKEEPER, "configure": False}},
        # The run may be about to suspend; resuming it before that would be lost.
        not_before=at + timedelta(seconds=2),
    )


async def end_links(session: AsyncSession, standing: Standing, *, now: datetime) -> None:
    """End the links by which nobody is to log in any more: that waits for no run, nor for Prefect.

    They are those of set-ups whose gate was skipped, or whose implementation was abandoned.
    """
    abandoned = standing.implementation.status == "abandoned"
    over = [
        system.id
        for gate in standing.plan.gates
        if gate.work == "authentication-setup"
        and (abandoned or standing.gates[gate.id].status == "skipped")
        and (system := standing.system(gate.system)) is not None
    ]
    made = select(col(AuthenticationSetup.link_id)).where(
        col(AuthenticationSetup.system_id).in_(over), col(AuthenticationSetup.ended_at).is_(None)
    )
    await session.execute(
        update(ConnectLink)
        .where(
            col(ConnectLink.id).in_(made),
            col(ConnectLink.used_at).is_(None),
            col(ConnectLink.expires_at) > now,
        )
        .values(expires_at=now)
    )


def key_of(row: Gate) -> str:
    """What makes the run of a gate's present attempt one run: the gate, and the attempt. Pure."""
    return _key(row.id, row.work_attempt)


def _key(gate_id: str, attempt: int) -> str:
    return f"work:{gate_id}:{attempt}"


async def gate_of_key(store: Store, idempotency_key: str | None) -> tuple[str, int] | None:
    """The gate and attempt for which Linekeeper started the run with that key; None: for none.

    A key is compared with those that were written, and not taken apart.
    """
    if idempotency_key is None:
        return None
    started = select(col(Gate.id), col(Gate.work_attempt)).where(col(Gate.work_attempt) > 0)
    async with store.read() as session:
        gates = (await session.execute(started)).all()
    return next(
        (
            (gate_id, attempt)
            for gate_id, last in gates
            for attempt in range(last, 0, -1)
            if _key(gate_id, attempt) == idempotency_key
        ),
        None,
    )


async def claim(store: Store, key: str, run_id: str, *, now: datetime) -> Claim:
    """Let the run that was started with `key` do the work of its gate, unless another one does."""
    started_for = await gate_of_key(store, key)
    if started_for is None:
        return "settled"
    gate_id, attempt = started_for
    async with store.write() as session:
        work = await _load(session, gate_id)
        assert work is not None  # gates are kept
        standing, row = work
        if row.work_run_id == run_id:
            return "ours"
        if row.work_run_id is not None or row.work_attempt != attempt:
            return "taken"
        if row.status in SETTLED or standing.implementation.status not in queries.UNDERWAY:
            return "settled"
        await _take(store, session, (standing, row), run_id, now)
        return "ours"


async def take_by_hand(
    store: Store,
    session: AsyncSession,
    wanted: Work,
    run_id: str,
    *,
    connection_id: str | None = None,
    system_id: str | None = None,
    now: datetime,
) -> None:
    """Make the run that somebody started the one of the gates it works for; others end."""
    for standing, row in await _gates_of(session, wanted, connection_id, system_id):
        if row.status in SETTLED or standing.implementation.status not in queries.UNDERWAY:
            continue
        if row.work_run_id != run_id:
            await news.send(store, session, [end(row, now)], now=now)
        await _take(store, session, (standing, row), run_id, now)


async def _take(
    store: Store, session: AsyncSession, gate_of: tuple[Standing, Gate], run_id: str, now: datetime
) -> None:
    standing, row = gate_of
    if row.work_run_id == run_id:
        return
    row.work_run_id, row.work_at, row.is_work_over = run_id, now, False
    await session.flush()
    linked = news.wake(standing, f":work:{run_id}")  # its graph links to the run from now on
    await news.send(store, session, [linked], now=now)


async def note_end(session: AsyncSession, run_id: str) -> None:
    """Keep that a run ended as it was meant to: it isn't started again."""
    for row in await session.scalars(select(Gate).where(col(Gate.work_run_id) == run_id)):
        if row.status == "pending":
            row.work_run_id, row.work_at = None, None
        else:
            row.is_work_over = True


async def hand_over(session: AsyncSession, lost: str, run_id: str) -> None:
    """Make `run_id` the run of the gates that had the run `lost`."""
    for row in await session.scalars(select(Gate).where(col(Gate.work_run_id) == lost)):
        row.work_run_id = run_id


async def note_ended(store: Store, run_id: str) -> None:
    """Keep that a run that could not begin its work is not started again: somebody has to."""
    async with store.write() as session:
        await note_end(session, run_id)


async def standing_of(store: Store, run_id: str) -> Standing | None:
    """The implementation to whose gate that run belongs."""
    async with store.read() as session:
        gate_id = await session.scalar(select(col(Gate.id)).where(col(Gate.work_run_id) == run_id))
        loaded = await _load(session, gate_id, lock=False) if gate_id else None
    return loaded and loaded[0]


async def is_over(session: AsyncSession, run_id: str) -> bool:
    """Whether the gate of that run needs it no more: it was skipped, or all was abandoned."""
    gate_id = await session.scalar(select(col(Gate.id)).where(col(Gate.work_run_id) == run_id))
    standing = await _load(session, gate_id) if gate_id else None
    if standing is None:
        return False
    return standing[1].status == "skipped" or standing[0].implementation.status == "abandoned"


async def is_open(store: Store, run_id: str) -> bool:
    """Whether that run still does the work of an open gate."""
    async with store.read() as session:
        gate_id = await session.scalar(
            select(col(Gate.id)).where(
                col(Gate.work_run_id) == run_id, col(Gate.status).in_(("open", "blocked"))
            )
        )
        standing = await _load(session, gate_id, lock=False) if gate_id else None
    return standing is not None and standing[0].implementation.status in queries.UNDERWAY


async def is_asked_for(
    session: AsyncSession,
    wanted: Work,
    *,
    connection_id: str | None = None,
    system_id: str | None = None,
) -> bool:
    """Whether an open gate asks for that work: its run is started, and started again, for it."""
    return any(
        standing.implementation.status in queries.UNDERWAY
        and row.status in ("open", "blocked")
        and not row.is_work_over
        for standing, row in await _gates_of(session, wanted, connection_id, system_id)
    )


async def restart_lost(
    store: Store, alive: Collection[str], *, before: datetime, now: datetime
) -> int:
    """Start the work of open gates that has no run any more; returns how many.

    `alive` are the ids and idempotency keys of the unfinished runs, as listed at `before`.
    """
    started = 0
    async with store.write() as session:
        for standing in await queries.load_underway(session):
            for gate in standing.plan.gates:
                row = standing.gates[gate.id]
                if not _can_run(standing, gate, row) or row.is_work_over:
                    continue
                if row.work_run_id in alive or key_of(row) in alive:
                    continue
                if row.work_at is not None and row.work_at >= before:
                    continue
                coming = await session.scalar(
                    select(col(Outbox.id)).where(
                        col(Outbox.dedupe_key) == key_of(row),
                        or_(col(Outbox.status) == "pending", col(Outbox.settled_at) >= before),
                    )
                )
                if coming is not None:
                    continue
                message = start_next(standing, row)
                await session.flush()
                await news.send(store, session, [message], now=now)
                started += 1
    return started


async def _gates_of(
    session: AsyncSession, wanted: Work, connection_id: str | None, system_id: str | None
) -> Sequence[tuple[Standing, Gate]]:
    same = [col(ImplementationSystem.id) == system_id]
    if connection_id is not None:
        same.append(col(ImplementationSystem.connection_id) == connection_id)
    systems = await session.scalars(select(ImplementationSystem).where(or_(*same)))
    gates = []
    for system in systems.all():
        standing = await queries.load(session, system.implementation_id, lock=True)
        assert standing is not None  # systems belong to an implementation
        gates += [
            (standing, standing.gates[gate.id])
            for gate in standing.plan.gates
            if gate.system == system.number and gate.work == wanted
        ]
    return gates


async def _load(
    session: AsyncSession, gate_id: str, *, lock: bool = True
) -> tuple[Standing, Gate] | None:
    # Only its address: the row itself is read once the implementation is locked.
    address = select(col(Gate.implementation_id), col(Gate.gate)).where(col(Gate.id) == gate_id)
    row = (await session.execute(address)).first() if is_id(gate_id) else None
    if row is None:
        return None
    standing = await queries.load(session, row[0], lock=lock)
    assert standing is not None  # gates belong to an implementation
    return standing, standing.gates[row[1]]
