"""How far an implementation is, forecast from where it stands; a slip is announced."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.implementation import news
from linekeeper.implementation.evaluate import Evaluation
from linekeeper.implementation.forecast import TRIALS
from linekeeper.implementation.notified import (
    NotifiedSlip,
    Sign,
    as_text,
    known,
    notified_of,
    signs_in,
)
from linekeeper.implementation.outlook import Outlook, forecast_plan
from linekeeper.implementation.proofs import Lack, SystemTrouble, troubles
from linekeeper.implementation.standing import TURNS, Standing, turn_of
from linekeeper.outbox.about import is_a
from linekeeper.people import person
from linekeeper.store import Store
from linekeeper.store.lists import update_many
from linekeeper.store.tables import Implementation, ImplementationSystem, Outbox

NAMED = 3


@dataclass(frozen=True, slots=True)
class Slip:
    """What is late or will be. `signs` are remembered, so that each is notified once."""

    signs: tuple[Sign, ...]
    line: str


def slip_of(
    standing: Standing, evaluation: Evaluation, outlook: Outlook, troubles: Sequence[SystemTrouble]
) -> Slip | None:
    """The slip at one moment; None while everything is as planned, or the work is on hold.

    A system in trouble is one: before the go-live nothing else notifies of it.
    """
    implementation = standing.implementation
    if implementation.status != "running":
        return None
    signs: list[Sign] = []
    parts: list[str] = []
    for word, lateness in (("overdue", "overdue"), ("late soon", "soon")):
        gates = [gate for gate, how in evaluation.late.items() if how == lateness]
        if gates:
            signs += [Sign(lateness, gate) for gate in gates]
            parts.append(f"{word}: {_named(standing, gates)}")
    if troubles:
        signs += [Sign(trouble.health, trouble.connection_id) for trouble in troubles]
        parts.append(f"in trouble: {_listed([trouble.words for trouble in troubles])}")
    if outlook.commitment in ("at risk", "late"):
        signs.append(Sign("commitment", outlook.commitment))
        chance = round(100 * (outlook.forecast.chance or 0))
        parts.append(
            f"committed {outlook.plan.scope.committed} is {outlook.commitment} "
            f"(forecast go-live {outlook.p50} (P50), probability {chance} %)"
        )
    if not signs:
        return None
    return Slip(
        tuple(signs),
        f"{implementation.title}: {'; '.join(parts)}. Owner {person(implementation.owner).shown}",
    )


def _named(standing: Standing, gates: list[str]) -> str:
    rows = [standing.gates[gate] for gate in gates]
    return _listed([f"{row.title} ({TURNS[turn_of(row)]})" for row in rows])


def _listed(named: Sequence[str]) -> str:
    remaining = len(named) - NAMED
    return ", ".join(named[:NAMED]) + (f" and {remaining} more" if remaining > 0 else "")


@dataclass(frozen=True, slots=True)
class Progress:
    """An implementation after it was moved on."""

    standing: Standing
    evaluation: Evaluation
    outlook: Outlook
    lacks: dict[str, Lack]
    """What gates wait for (`proofs.prove`)."""


async def forecast_anew(
    store: Store,
    standing: Standing,
    evaluation: Evaluation,
    lacks: dict[str, Lack],
    *,
    now: datetime,
) -> Progress:
    """Forecast from where it stands and keep the result; notify of a slip that is new."""
    outlook = await asyncio.to_thread(forecast_standing, standing, evaluation, lacks)
    async with store.write() as session:
        await keep(store, session, standing, evaluation, outlook, lacks=lacks, now=now)
    return Progress(standing, evaluation, outlook, lacks)


def forecast_standing(
    standing: Standing, evaluation: Evaluation, lacks: dict[str, Lack], trials: int = TRIALS
) -> Outlook:
    """Forecast from where it stands; a check that found something makes its gate longer. Pure."""
    setbacks = {
        gate
        for gate, lack in lacks.items()
        if lack.setback and evaluation.statuses[gate] in ("open", "blocked")
    }
    return forecast_plan(
        standing.plan, standing.calendar, evaluation, setbacks=setbacks, trials=trials
    )


async def keep(
    store: Store,
    session: AsyncSession,
    standing: Standing,
    evaluation: Evaluation,
    outlook: Outlook,
    *,
    lacks: Mapping[str, Lack],
    now: datetime,
) -> None:
    """Store the forecast in the caller's transaction, and notify of a slip that is new."""
    implementation = standing.implementation
    slip = slip_of(standing, evaluation, outlook, troubles(lacks))
    signs, promised = slip.signs if slip else (), outlook.plan.scope.committed
    before = await _notified(session, implementation.id)
    fresh = before.news(signs, promised)
    unsaid, unread = await _settle_waiting(session, standing, slip, fresh, now)
    if implementation.status == "held":
        # What was notified before isn't new once it goes on; what only waited to be sent is.
        notified = before.without(unsaid, promise=unread)
    else:
        notified = before.after(signs, promised, outlook.commitment, now, unread=unread)
    values = {
        "p50": outlook.p50,
        "p80": outlook.p80,
        "chance": outlook.forecast.chance,
        "commitment": outlook.commitment,
        "progress": evaluation.progress,
        "forecast_at": now,
        "digest": slip.line if slip else None,
        "notified": notified.as_json(),
        "notified_of_before": as_text(notified),
    }
    if slip is not None and fresh:
        line = news.slip(standing, slip.line, fresh | unsaid, now=now)
        await news.send(store, session, [line], now=now)
    await session.execute(
        update_many(Implementation)
        .where(col(Implementation.id) == implementation.id)
        .values(**values)
    )
    for name, value in values.items():
        setattr(implementation, name, value)
    await _keep_logins(session, standing, outlook)


async def _notified(session: AsyncSession, identifier: str) -> NotifiedSlip:
    """What people were notified of; nobody else changes it until the transaction ends."""
    stored = await session.execute(
        select(col(Implementation.notified), col(Implementation.notified_of_before))
        .where(col(Implementation.id) == identifier)
        .with_for_update()
    )
    return notified_of(*stored.one())


async def _settle_waiting(
    session: AsyncSession,
    standing: Standing,
    slip: Slip | None,
    fresh: set[Sign],
    now: datetime,
) -> tuple[set[Sign], bool]:
    """Keep what waits for working hours true until it is said.

    It is said in the words of now, and not at all once nothing it is about is so any more, or with
    the message of what is `fresh`. Returns the signs of what is not said, and whether the promised
    date is among what waited.
    """
    waits = (
        is_a("slip", subject=standing.implementation.id),
        col(Outbox.status) == "pending",
        col(Outbox.claimed_by).is_(None),
    )
    unsaid: set[Sign] = set()
    unread = False
    signs = set(slip.signs) if slip else set()
    for row in (await session.scalars(select(Outbox).where(*waits))).all():
        about = known(signs_in(row.payload))
        unread |= any(sign.kind == "commitment" for sign in about)
        values: dict[str, Any] = {"payload": {**row.payload, "text": slip.line if slip else ""}}
        if fresh or not about & signs:
            values = {"status": "superseded", "settled_at": now, "error": "not so any more"}
            unsaid |= about & signs if slip else about
        await session.execute(
            update_many(Outbox).where(col(Outbox.id) == row.id, *waits).values(**values)
        )
    return unsaid, unread


async def _keep_logins(session: AsyncSession, standing: Standing, outlook: Outlook) -> None:
    """When each system is likely to be connected, for the credits it will take then."""
    for gate in outlook.plan.gates:
        system = standing.system(gate.system) if gate.check == "token_works" else None
        if system is None or system.connection_id is not None:
            continue
        days = outlook.forecast.gates[gate.id].finish_p50
        connects = outlook.calendar.finish(outlook.start, days)
        if connects != system.connects:
            await session.execute(
                update_many(ImplementationSystem)
                .where(col(ImplementationSystem.id) == system.id)
                .values(connects=connects)
            )
            system.connects = connects
