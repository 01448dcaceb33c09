"""Moving implementations on at once when something new proves a gate, whoever learned it.

The consumer looks every few seconds; the hourly run forecasts all anew, and redraws what people
see. Where no such run comes, as Prefect is away, the consumer forecasts, and a slip is announced.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, select
from sqlmodel import col

from linekeeper.implementation import news, queries
from linekeeper.implementation.advance import advance, advance_all, ready
from linekeeper.implementation.progress import Progress
from linekeeper.incidents.windows import is_paused
from linekeeper.preflight.evidence import keep
from linekeeper.preflight.run import PreflightVerdicts
from linekeeper.store import Store
from linekeeper.store.leases import holding
from linekeeper.store.lists import count_rows
from linekeeper.store.tables import Implementation, ImplementationSystem

ADVANCING = "advance-implementations"
"""The lease of whoever moves all implementations on."""
MISSED_AFTER = timedelta(minutes=90)


async def watch(store: Store, *, now: datetime) -> bool:
    """Move on those whose gates can be, which wakes their runs; whether there were any."""
    async with store.read() as session:
        is_underway = col(Implementation.status).in_(queries.UNDERWAY)
        any_underway = await count_rows(session, Implementation, is_underway)
        ids = await ready(session, now=now) if any_underway else []
    for identifier in ids:
        await advance(store, identifier, now=now)
    return bool(ids)


async def forecast_missed(store: Store, owner: str, *, now: datetime) -> bool:
    """Move all on and forecast them anew where no hourly run has done so; whether it was done.

    Not while everything is paused, nor beside a run that is at it. `owner` is the process.
    """
    async with store.read() as session:
        oldest = await session.scalar(
            select(func.min(col(Implementation.forecast_at))).where(
                col(Implementation.status).in_(queries.UNDERWAY)
            )
        )
        if oldest is None or oldest > now - MISSED_AFTER or await is_paused(session, now):
            return False
    async with holding(store, ADVANCING, owner, wait=False) as held:
        if held is None:
            return False
        await advance_all(store, now=now)
    return True


async def advance_targets(store: Store, targets: Iterable[str], *, now: datetime) -> list[Progress]:
    """Move on the implementations that have a system at one of `targets`."""
    return await _advance_with(store, col(ImplementationSystem.target).in_(list(targets)), now)


async def advance_connection(store: Store, connection_id: str, *, now: datetime) -> list[Progress]:
    """Move on the implementations one of whose systems is that connection."""
    return await _advance_with(store, col(ImplementationSystem.connection_id) == connection_id, now)


async def _advance_with(store: Store, which: ColumnElement[bool], now: datetime) -> list[Progress]:
    async with store.read() as session:
        ids = await session.scalars(
            select(col(ImplementationSystem.implementation_id))
            .join(
                Implementation,
                col(Implementation.id) == col(ImplementationSystem.implementation_id),
            )
            .where(col(Implementation.status).in_(queries.UNDERWAY), which)
            .distinct()
        )
        implementation_ids = sorted(ids)
    return [await advance(store, identifier, now=now) for identifier in implementation_ids]


async def take_report(
    store: Store, report: PreflightVerdicts, *, by: str, now: datetime
) -> tuple[int, list[Progress]]:
    """Keep what a customer's IT found and move on whoever waits for it.

    Returns how many of its targets are new evidence, and how those implementations stand now.
    """
    new = await keep(store, report, source="import", by=by, now=now)
    moved = await advance_targets(store, report.targets, now=now)
    async with store.write() as session:
        woken = [news.wake(progress.standing, f":{report.at.isoformat()}") for progress in moved]
        await news.send(store, session, woken, now=now)
    return new, moved
