"""A delivery that ends while a poll looks for those that announced what it found."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.reconcile import deliveries
from linekeeper.store.tables import Change, WebhookEvent
from tests.inbox.process.stage import Stage
from tests.inbox.process.test_process_records import changed, event_of
from tests.reconcile.conftest import run


async def test_a_delivery_that_ends_while_a_poll_looks_for_it_is_found(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its change counts as missed, and the product gets it twice."""
    [connection, *_] = stage.connections
    await run(stage.rt, connections=[connection.id])
    [key] = await changed(stage, connection, "eam/assets", 1)
    receipt = await stage.deliver(event_of("eam/assets", [key]), to=connection)
    named, store = deliveries._named, stage.rt.store

    async def settle() -> None:
        ended = {"status": "deferred", "processed_at": utcnow(), "connection_id": connection.id}
        async with store.write() as session:
            await session.execute(update(WebhookEvent).values(**ended))

    async def and_it_ends(*args: Any) -> AsyncIterator[tuple[str, datetime]]:
        async for found in named(*args):
            yield found
        await settle()

    if store.is_sqlite:  # one transaction at a time writes there
        await settle()
    else:
        monkeypatch.setattr(deliveries, "_named", and_it_ends)
    await run(stage.rt, connections=[connection.id])
    received_at = (await stage.event(receipt.id)).received_at
    async with store.read() as session:
        change = await session.scalar(select(Change).where(col(Change.key) == key))
    assert change is not None
    assert (change.recovered, change.announced_at) == (False, received_at)
