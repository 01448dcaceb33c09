"""Moving implementations on at once when something new proves a gate, whoever learned it.

The consumer looks every few seconds; the hourly run is the net, and redraws what people see.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import ColumnElement, func, select
from sqlmodel import col

from linekeeper.implementation import news, queries
from linekeeper.implementation.advance import advance, ready
from linekeeper.implementation.progress import Progress
from linekeeper.preflight.evidence import keep
from linekeeper.preflight.run import PreflightVerdicts
from linekeeper.store import Store
from linekeeper.store.tables import Implementation, ImplementationSystem


async def watch(store: Store, *, now: datetime) -> bool:
    """Move on those whose gates can be, which wakes their runs; whether there were any."""
    async with store.read() as session:
        any_underway = await session.scalar(
            select(func.count())
            .select_from(Implementation)
            .where(col(Implementation.status).in_(queries.UNDERWAY))
        )
        ids = [] if not any_underway else await ready(session, now=now)
    for identifier in ids:
        await advance(store, identifier, now=now)
    return bool(ids)


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
