"""Having a run that waits look at the database."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from linekeeper.outbox.queue import Message, enqueue
from linekeeper.outbox.sender import supersede
from linekeeper.store import Store
from linekeeper.store.tables import Outbox


async def wake_run(
    store: Store, session: AsyncSession, run_id: str, turn: str, *, now: datetime
) -> None:
    """Have the run resumed, once in each `turn`: it may be about to suspend, and would miss one.

    While Prefect is away only the last one waits, however often it was asked for.
    """
    woken = f"run:wake:{run_id}"
    key = f"{woken}:{turn}"
    before = await session.scalars(
        select(col(Outbox.dedupe_key)).where(
            col(Outbox.ordering_key) == woken,
            col(Outbox.status) == "pending",
            col(Outbox.dedupe_key) != key,
        )
    )
    await supersede(session, before.all(), now=now)
    payload = {"resume": run_id, "answer": {"by": "linekeeper"}}
    await enqueue(store, session, [Message("run", key, payload, woken)], now=now)
