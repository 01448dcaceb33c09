"""Who is cancelled while it claims holds nothing: a claim may be committed and not yet known."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import select
from sqlmodel import col

from linekeeper.clock import monotonic, utcnow
from linekeeper.consumer.connection_events import process_connection_events
from linekeeper.consumer.record_events import RecordEvents
from linekeeper.outbox.senders.forward import forwarding
from linekeeper.runtime import Runtime
from linekeeper.store.tables import Outbox, WebhookEvent
from tests.inbox.process.stage import Stage, about
from tests.inbox.process.test_process_records import changed, event_of

Step = Callable[[Runtime], Awaitable[object]]


async def records(rt: Runtime) -> None:
    async with RecordEvents(rt) as events:
        await events.step()


async def forwards(rt: Runtime) -> None:
    async with forwarding(rt) as forwarder:
        await forwarder.deliver()


async def claimed(stage: Stage) -> list[str]:
    """Who still holds something."""
    held: list[str] = []
    async with stage.rt.store.read() as session:
        for table in (WebhookEvent, Outbox):
            rows = select(col(table.claimed_by)).where(
                col(table.status) == "pending", col(table.claimed_by).is_not(None)
            )
            held += [each for each in await session.scalars(rows) if each]
    return held


async def cut_off(step: Awaitable[object], after: float) -> bool:
    """Cancel `step` after so many seconds; whether it had not ended."""
    task = asyncio.ensure_future(step)
    until = monotonic() + after
    while monotonic() < until and not task.done():
        await asyncio.sleep(0)
    is_early = not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return is_early


@pytest.mark.parametrize("what", ["records", "connections", "forwards"])
async def test_whenever_it_is_cancelled_all_that_it_claimed_is_due_again(
    stage: Stage, what: str
) -> None:
    [connection, *_] = stage.connections
    keys = await changed(stage, connection, "eam/assets", 1)
    steps: dict[str, Step] = {
        "records": records, "connections": process_connection_events, "forwards": forwards,
    }  # fmt: skip
    if what == "forwards":
        await stage.deliver(event_of("eam/assets", keys), to=connection)
        await stage.process()
    early = False
    for number in range(100):
        if not early and what == "records":
            await stage.deliver(event_of("eam/assets", keys), to=connection)
        if not early and what == "connections":
            kind = "connection.synchronized"
            await stage.deliver(about(connection, kind, utcnow()), to=connection)
        early = await cut_off(steps[what](stage.rt), number / 10_000)
        assert await claimed(stage) == [], f"cancelled after {number / 10} ms"
