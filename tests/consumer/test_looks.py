"""Beside a destination that hangs nothing is looked for until there is something to find."""

import asyncio
from collections.abc import Mapping
from typing import Any

from sqlalchemy import event

from linekeeper.clock import utcnow
from linekeeper.outbox.dispatcher import Dispatcher
from linekeeper.outbox.queue import OUTBOX, Message, enqueue
from linekeeper.outbox.sender import Ended, OutboxRow, Partition, Result, Sender
from linekeeper.store import Store


class TwoPlaces(Sender):
    """Sends to `slow`, which answers nothing, and to `quick`."""

    channel = "forward"

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.hangs = asyncio.Event()

    async def partitions(self) -> Mapping[str, Partition]:
        return {name: Partition(OUTBOX.c.ordering_key == name) for name in ("slow", "quick")}

    def destination(self, row: OutboxRow) -> str:
        return row.ordering_key

    async def send(self, row: OutboxRow) -> Result:
        if row.ordering_key == "slow":
            self.hangs.set()
            await asyncio.Event().wait()
        self.sent.append(row.dedupe_key)
        return Ended()


async def put(store: Store, key: str, ordering_key: str) -> None:
    async with store.write() as session:
        message = Message("forward", key, ordering_key=ordering_key)
        await enqueue(store, session, [message], now=utcnow())


async def test_beside_a_destination_that_hangs_others_are_sent_to_and_nothing_is_looked_for(
    store: Store,
) -> None:
    statements: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    event.listen(store.engine.sync_engine, "before_cursor_execute", note)
    sender, is_due = TwoPlaces(), asyncio.Event()
    async with Dispatcher(store, "me", sender) as dispatcher:
        await put(store, "a", "slow")
        step = asyncio.create_task(dispatcher.step(is_due.wait))
        await sender.hangs.wait()
        statements.clear()
        await asyncio.sleep(0.3)
        assert not step.done()
        assert statements == []
        await put(store, "b", "quick")
        is_due.set()
        assert await step
        while not sender.sent:
            assert await dispatcher.step()
        assert sender.sent == ["b"]
