"""What is next is claimed while what is answered is settled; the order is kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import col
from starlette.responses import JSONResponse

from linekeeper.clock import utcnow
from linekeeper.consumer.held import HeldEvent
from linekeeper.consumer.record_events import RecordEvents
from linekeeper.consumer.storing import IN_A_TRANSACTION, halves_of
from linekeeper.inbox.claim import Event, Settled
from linekeeper.inbox.plan import EventPlan
from linekeeper.store.tables import WebhookEvent
from tests.inbox.process.front import Front, fronted
from tests.inbox.process.stage import Stage
from tests.inbox.process.test_process_records import changed, event_of, make_due


@asynccontextmanager
async def locked(stage: Stage, event_id: str) -> AsyncIterator[None]:
    """Nobody can settle the event meanwhile; on SQLite nobody can write at all, so it isn't."""
    if stage.rt.store.is_sqlite:
        yield
        return
    async with stage.rt.store.write() as session:
        await session.execute(
            select(col(WebhookEvent.id)).where(col(WebhookEvent.id) == event_id).with_for_update()
        )
        yield


async def test_an_event_claimed_while_the_one_before_it_fails_waits_for_it(stage: Stage) -> None:
    [connection, *_] = stage.connections
    [sick, well] = await changed(stage, connection, "eam/assets", 2)
    refusal = JSONResponse({"message": "Maintenance."}, 500)
    front = Front(stage.fleet.url, answer=lambda last: refusal if last == sick else None)
    async with fronted(stage, front) as seen:
        first = await seen.deliver(event_of("eam/assets", [sick]), to=connection)
        async with RecordEvents(seen.rt) as events:
            while not events._readers.answered:
                await events.step()
            second = await seen.deliver(event_of("eam/assets", [well]), to=connection)
            async with locked(stage, first.id):
                step = asyncio.create_task(events.step())
                await asyncio.wait({step}, timeout=1.0)  # long enough to claim what is next
            await step
            assert (await stage.event(first.id)).error
            front.answer = lambda _: None
            for _ in range(10):
                await events.step()
            waiting = await stage.event(second.id)
            assert (waiting.status, waiting.attempts, waiting.claimed_by) == ("pending", 0, None)
            await make_due(stage)
            while (await stage.event(second.id)).status == "pending":
                await events.step()
                await asyncio.sleep(0.02)
        await seen.forward()
    assert [identity for identity, _ in seen.product.taken] == [first.id, second.id]


async def test_what_could_not_be_given_back_is_still_before_what_came_later(stage: Stage) -> None:
    [connection, *_] = stage.connections
    [early, late] = await changed(stage, connection, "eam/assets", 2)
    front = Front(stage.fleet.url)
    async with fronted(stage, front) as seen:
        first = await seen.deliver(event_of("eam/assets", [early]), to=connection)
        async with RecordEvents(seen.rt) as events:
            while not events._readers.answered:
                await events.step()
            await renamed(stage, "webhook_event", "elsewhere")
            with pytest.raises(DBAPIError):
                await events.step()
            await renamed(stage, "elsewhere", "webhook_event")
            second = await seen.deliver(event_of("eam/assets", [late]), to=connection)
            async with asyncio.timeout(30):
                while (await stage.event(second.id)).status == "pending":
                    await events.step()
                    await asyncio.sleep(0.02)
        await seen.forward()
    assert [identity for identity, _ in seen.product.taken] == [first.id, second.id]


async def renamed(stage: Stage, old: str, new: str) -> None:
    async with stage.rt.store.write() as session:
        await session.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))


async def test_many_events_are_stored_side_by_side_and_handed_on_in_order(stage: Stage) -> None:
    some = stage.connections[:4]
    keys = {
        connection.id: (await changed(stage, connection, "eam/assets", 1))[0] for connection in some
    }
    bodies = [
        ({"id": f"{number}-{connection.id}", **event_of("eam/assets", [keys[connection.id]])}, to)
        for number in range(180)
        for connection, to in zip(some, some, strict=True)
    ]
    receipts = await stage.deliver_all(bodies)
    assert len(receipts) > IN_A_TRANSACTION
    await stage.process()
    assert {event.status for event in await stage.events()} == {"processed"}
    assert {row.key for row in await stage.records()} == set(keys.values())
    await stage.forward()
    taken = [identity for identity, _ in stage.product.taken]
    assert sorted(taken) == sorted(receipt.id for receipt in receipts)
    for place in range(len(some)):
        own = [receipt.id for receipt in receipts[place :: len(some)]]
        assert [identity for identity in taken if identity in set(own)] == own


def held(number: int, connection: int | None, ordering_key: str) -> HeldEvent:
    now = utcnow()
    ref = None if connection is None else str(connection)
    event = Event(
        f"{number:06d}", "default", ordering_key, 1, ref, ref, "assets.updated", "record.updated",
        "eam/assets", None, now, None, None,
    )  # fmt: skip
    return HeldEvent(event, EventPlan(Settled("processed", ref)), {}, 0.0)


@given(st.lists(st.integers(0, 6), min_size=20, max_size=20), st.booleans())
def test_halves_share_no_connection_and_no_ordering_key(of: list[int], crossed: bool) -> None:
    connections = [None if number == 0 else number for number in of * 40]
    good = [
        held(number, connection, f"ordering_key {connection}" if connection else f"own {number}")
        for number, connection in enumerate(connections)
    ]
    if crossed:  # the same name, known as another connection from some moment on
        good += [held(800, 7, "ordering_key x"), held(801, 8, "ordering_key x")]
    halves, rest = halves_of(good)
    if crossed:
        assert (halves, rest) == ((), good)
        return
    parts = [*halves, rest]
    assert sorted(each.event.id for part in parts for each in part) == [
        each.event.id for each in good
    ]
    for name in (
        lambda each: each.plan.settled.connection_id,
        lambda each: each.event.ordering_key,
    ):
        first, second = ({name(each) for each in half} for half in halves)
        assert not first & second
    for part in parts:
        for ordering_key in {each.event.ordering_key for each in part}:
            ids = [each.event.id for each in part if each.event.ordering_key == ordering_key]
            assert ids == sorted(ids)
