"""How far an implementation is, forecast from where it stands; a slip is announced."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.implementation import news
from linekeeper.implementation.evaluate import Evaluation
from linekeeper.implementation.forecast import TRIALS
from linekeeper.implementation.outlook import Outlook, forecast_plan
from linekeeper.implementation.proofs import Lack, SystemTrouble, troubles
from linekeeper.implementation.standing import TURNS, Standing, turn_of
from linekeeper.outbox.about import is_a
from linekeeper.people import person
from linekeeper.store import Store
from linekeeper.store.tables import Implementation, ImplementationSystem, Outbox

NAMED = 3
WELL_AFTER = timedelta(days=1)
"""How long a promised date has to be kept until its being at risk, or late, is news again."""
_PROMISED = "promised "
_WELL = "well since "


@dataclass(frozen=True, slots=True)
class Slip:
    """What is late or will be. `signs` are remembered, so that each is notified once."""

    signs: tuple[str, ...]
    line: str
    promise: str
    """What the remembered signs of its promised date begin with."""


def slip_of(
    standing: Standing, evaluation: Evaluation, outlook: Outlook, troubles: Sequence[SystemTrouble]
) -> Slip | None:
    """The slip at one moment; None while everything is as planned, or the work is on hold.

    A system in trouble is one: before the go-live nothing else notifies of it.
    """
    implementation = standing.implementation
    if implementation.status != "running":
        return None
    signs: list[str] = []
    parts: list[str] = []
    for word, lateness in (("overdue", "overdue"), ("late soon", "soon")):
        gates = [gate for gate, how in evaluation.late.items() if how == lateness]
        if gates:
            signs += [f"{lateness}:{gate}" for gate in gates]
            parts.append(f"{word}: {_named(standing, gates)}")
    if troubles:
        signs += [f"{trouble.health}:{trouble.connection_id}" for trouble in troubles]
        parts.append(f"in trouble: {_listed([trouble.words for trouble in troubles])}")
    if outlook.commitment in ("at risk", "late"):
        signs.append(f"commitment:{outlook.commitment}")
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
        _promise(outlook),
    )


def news_in(slip: Slip | None, notified_signs: str) -> bool:
    """Whether `slip` has a sign that people were not notified of (`notified_signs`)."""
    return slip is not None and bool(_news(slip, notified_signs))


def _news(slip: Slip, notified_signs: str) -> set[str]:
    """The signs of `slip` that are news; a promised date's are none until it was well for a day."""
    before = notified_signs.split("\n")
    said = [
        f"commitment:{sign.removeprefix(slip.promise)}"
        for sign in before
        if sign.startswith(slip.promise)
    ]
    return {*slip.signs} - _known([*before, *said])


def _promise(outlook: Outlook) -> str:
    return f"{_PROMISED}{outlook.plan.scope.committed}:"


def remembered_of(
    outlook: Outlook, notified_signs: str, now: datetime, *, unread: bool
) -> list[str]:
    """What was said of the promised date, until it was well for a day.

    A date that hovers is announced once so. `unread`: what was to be said of it still waits.
    """
    before, promise = notified_signs.split("\n"), _promise(outlook)
    said = {sign for sign in before if sign.startswith(promise) and not unread}
    if outlook.commitment in ("at risk", "late"):
        return sorted(said | {f"{promise}{outlook.commitment}"})
    since = next((sign for sign in before if sign.startswith(_WELL)), f"{_WELL}{now.isoformat()}")
    if not said or now - datetime.fromisoformat(since.removeprefix(_WELL)) >= WELL_AFTER:
        return []
    return [*sorted(said), since]


def _known(signs: Iterable[str]) -> set[str]:
    """What is no news after `signs`: these, and that it is not as bad any more."""
    known = set(signs)
    if "commitment:late" in known:
        known.add("commitment:at risk")
    return known | {sign.replace("overdue:", "soon:", 1) for sign in known}


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
    unsaid, unread = await _settle_waiting(session, standing, slip, now)
    remembered = remembered_of(outlook, implementation.notified_signs, now, unread=unread)
    notified_signs = "\n".join([*(slip.signs if slip else ()), *remembered])
    if implementation.status == "held":
        # What was notified before isn't new once it goes on; what only waited to be sent is.
        notified_signs = "\n".join(
            sign
            for sign in implementation.notified_signs.split("\n")
            if sign not in unsaid and not (unread and sign.startswith(_PROMISED))
        )
    values = {
        "p50": outlook.p50,
        "p80": outlook.p80,
        "chance": outlook.forecast.chance,
        "commitment": outlook.commitment,
        "progress": evaluation.progress,
        "forecast_at": now,
        "digest": slip.line if slip else None,
        "notified_signs": notified_signs,
    }
    if slip is not None and news_in(slip, implementation.notified_signs):
        claimed = await session.scalar(
            update(Implementation)
            .where(
                col(Implementation.id) == implementation.id,
                col(Implementation.notified_signs) == implementation.notified_signs,
            )
            .values(notified_signs=notified_signs)
            .returning(col(Implementation.id))
            .execution_options(synchronize_session=False)
        )
        if claimed is not None:
            fresh = _news(slip, implementation.notified_signs) | unsaid
            line = news.slip(standing, slip.line, sorted(fresh), now=now)
            await news.send(store, session, [line], now=now)
    await session.execute(
        update(Implementation)
        .where(col(Implementation.id) == implementation.id)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    for name, value in values.items():
        setattr(implementation, name, value)
    await _keep_logins(session, standing, outlook)


async def _settle_waiting(
    session: AsyncSession, standing: Standing, slip: Slip | None, now: datetime
) -> tuple[set[str], bool]:
    """Keep what waits for working hours true until it is said.

    It is said in the words of now, and not at all once nothing it is about is so any more, or with
    the message of what is new. Returns the signs of what is not said, and whether the promised date
    is among what waited.
    """
    waits = (
        is_a("slip", subject=standing.implementation.id),
        col(Outbox.status) == "pending",
        col(Outbox.claimed_by).is_(None),
    )
    unsaid: set[str] = set()
    unread = False
    signs = set(slip.signs) if slip else set()
    is_new = news_in(slip, standing.implementation.notified_signs)
    for row in (await session.scalars(select(Outbox).where(*waits))).all():
        about = _known(row.payload.get("signs", ()))
        unread |= any(sign.startswith("commitment:") for sign in about)
        values: dict[str, Any] = {"payload": {**row.payload, "text": slip.line if slip else ""}}
        if is_new or not about & signs:
            values = {"status": "superseded", "settled_at": now, "error": "not so any more"}
            unsaid |= about & signs if slip else about
        await session.execute(
            update(Outbox)
            .where(col(Outbox.id) == row.id, *waits)
            .values(**values)
            .execution_options(synchronize_session=False)
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
                update(ImplementationSystem)
                .where(col(ImplementationSystem.id) == system.id)
                .values(connects=connects)
                .execution_options(synchronize_session=False)
            )
            system.connects = connects
