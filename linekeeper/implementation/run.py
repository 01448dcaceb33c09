"""The one run that shows an implementation: which it is, and started again where it was lost."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import or_, select
from sqlmodel import col

from linekeeper.implementation import news, queries
from linekeeper.implementation.advance import look
from linekeeper.implementation.progress import Progress
from linekeeper.implementation.standing import Standing
from linekeeper.outbox.about import is_a
from linekeeper.outbox.queue import Message
from linekeeper.store import Store
from linekeeper.store.lists import update_many
from linekeeper.store.tables import Implementation, Outbox


async def shown_by(store: Store, run_id: str) -> str | None:
    """The id of the implementation that run shows."""
    async with store.read() as session:
        shown_run: str | None = await session.scalar(
            select(col(Implementation.id)).where(col(Implementation.run_id) == run_id)
        )
        return shown_run


async def take_up(
    store: Store, identifier: str, run_id: str, *, instead_of: str | None, now: datetime
) -> bool:
    """Make that run the one that shows it, in place of `instead_of`; False if another came first.

    Compare and set: whoever gives `instead_of` has seen that it is gone.
    """
    before = col(Implementation.run_id)
    same = before.is_(None) if instead_of is None else before == instead_of
    async with store.write() as session:
        taken = await session.scalar(
            update_many(Implementation)
            .where(col(Implementation.id) == identifier, same)
            .values(run_id=run_id, run_at=now)
            .returning(col(Implementation.id))
        )
    return taken is not None


async def take_stock(store: Store, identifier: str, *, now: datetime) -> Progress:
    """How it stands, read by its run. What woke it, and would wake it again for that, is done."""
    async with store.write() as session:
        implementation = await session.get(Implementation, identifier)
        if implementation is not None:
            await session.execute(
                update_many(Outbox)
                .where(
                    is_a("wake", "look", subject=implementation.id),
                    col(Outbox.status) == "pending",
                    col(Outbox.claimed_by).is_(None),
                    # One that was tried was due, and waits only until the run is suspended.
                    or_(col(Outbox.next_attempt_at) <= now, col(Outbox.attempts) > 0),
                )
                .values(status="superseded", settled_at=now)
            )
    return await look(store, identifier, now=now)


async def look_again(
    store: Store, standing: Standing, *, at: datetime | None, now: datetime
) -> None:
    """Have its run woken at `at`, though nothing may have happened by then; None: not for that.

    Whatever look was planned before is no longer wanted.
    """
    implementation = standing.implementation
    async with store.write() as session:
        await session.execute(
            update_many(Outbox)
            .where(
                is_a("look", subject=implementation.id),
                col(Outbox.status) == "pending",
                col(Outbox.claimed_by).is_(None),
            )
            .values(status="superseded", settled_at=now)
        )
        if at is not None:
            # Made by each look anew: the same moment may have been planned and superseded before.
            key = f":at:{at:%Y%m%d%H%M}:{now:%Y%m%d%H%M%S%f}"
            await news.send(store, session, [news.wake(standing, key, at=at)], now=now)


async def wake(store: Store, identifiers: Collection[str], *, because: str, now: datetime) -> None:
    """Have the runs of these look again: something else than a gate is new."""
    async with store.write() as session:
        for identifier in identifiers:
            standing = await queries.load(session, identifier)
            if standing is not None:
                woken = news.wake(standing, f":{because}")
                await news.send(store, session, [woken], now=now)


async def restart_lost(
    store: Store, alive: Collection[str], *, before: datetime, now: datetime
) -> int:
    """Start the run of each that is underway and has none any more; returns how many.

    `alive` are the ids and idempotency keys of the unfinished runs of `implementation`, as listed
    at `before`.
    """
    started = 0
    async with store.write() as session:
        for standing in await queries.load_underway(session):
            implementation = standing.implementation
            if implementation.run_id in alive or run_key(implementation) in alive:
                continue
            if (
                max(implementation.run_at or implementation.started_at, implementation.started_at)
                >= before
            ):
                continue
            coming = await session.scalar(
                select(col(Outbox.id)).where(
                    col(Outbox.dedupe_key) == run_key(implementation),
                    or_(col(Outbox.status) == "pending", col(Outbox.settled_at) >= before),
                )
            )
            if coming is not None:
                continue
            implementation.run_attempt += 1
            await session.flush()
            await news.send(store, session, [start_message(standing)], now=now)
            started += 1
    return started


def start_message(standing: Standing) -> Message:
    """Start its run, once for each attempt: by the same form, which finds the implementation."""
    implementation, key = standing.implementation, run_key(standing.implementation)
    parameters = {
        "customer": standing.customer.name,
        "systems": [
            {
                "name": system.name,
                "tier": system.tier,
                "target": system.target or "",
                "vpn": system.vpn,
                "hosting": system.hosting or "",
            }
            for system in standing.systems
        ],
        "kickoff": implementation.kickoff.isoformat(),
        "by": implementation.started_by,
        "owner": implementation.owner,
        "app": implementation.app,
        "complexity": implementation.complexity,
        "hosting": implementation.hosting,
        "custom_workflows": implementation.custom_workflows,
    }
    return Message(
        "run",
        key,
        {
            "deployment": "implementation",
            "idempotency_key": key,
            "name": implementation.title,
            "parameters": parameters,
            "tags": [f"implementation:{implementation.slug}"[: news.MAX_TAG]],
        },
    )


def run_key(implementation: Implementation) -> str:
    """What makes the run of its present attempt one run."""
    return f"implementation:{implementation.id}:{implementation.run_attempt}"
