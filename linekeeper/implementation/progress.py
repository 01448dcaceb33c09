"""How far an implementation is, forecast from where it stands; kept, and told where it slips."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.implementation import news
from linekeeper.implementation.evaluate import Evaluation
from linekeeper.implementation.forecast import TRIALS
from linekeeper.implementation.outlook import Outlook, forecast_plan
from linekeeper.implementation.proofs import Lack, troubles
from linekeeper.implementation.slip import news_in, slip_of
from linekeeper.implementation.standing import Standing
from linekeeper.store import Store
from linekeeper.store.tables import Implementation, ImplementationSystem


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
    """Forecast from where it stands and keep the result; tell of a slip that is new."""
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
    """Store the forecast in the caller's transaction, and tell of a slip that is new."""
    implementation = standing.implementation
    slip = slip_of(standing, evaluation, outlook, troubles(lacks))
    told = "\n".join(slip.signs) if slip else ""
    values = {
        "p50": outlook.p50,
        "p80": outlook.p80,
        "chance": outlook.forecast.chance,
        "commitment": outlook.commitment,
        "progress": evaluation.progress,
        "forecast_at": now,
        "digest": slip.line if slip else None,
        "told": told,
    }
    if slip is not None and news_in(slip, implementation.told):
        claimed = await session.scalar(
            update(Implementation)
            .where(
                col(Implementation.id) == implementation.id,
                col(Implementation.told) == implementation.told,
            )
            .values(told=told)
            .returning(col(Implementation.id))
            .execution_options(synchronize_session=False)
        )
        if claimed is not None:
            at = news.working_moment(standing.calendar, now)
            line = news.say(standing, f"slip:{now:%Y%m%d%H%M%S}", slip.line, not_before=at)
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
