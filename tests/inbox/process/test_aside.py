"""An entity that can't be read holds up what came for it, and nothing else of its connection."""

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import select, update
from sqlmodel import col
from starlette.responses import JSONResponse, Response

from linekeeper.clock import utcnow
from linekeeper.consumer.events import MOST_CALLS
from linekeeper.consumer.record_events import RecordEvents, process_record_events
from linekeeper.inbox.identify import Receipt
from linekeeper.inbox.replay import Selection, replay
from linekeeper.orchestrator import Blocks
from linekeeper.store.configuration import save_blocks
from linekeeper.store.tables import Change, Connection, WebhookEvent
from tests.inbox.process.front import Front, fronted
from tests.inbox.process.stage import Stage
from tests.inbox.process.test_fair import running
from tests.inbox.process.test_process_records import changed, event_of, make_due
from tests.reconcile.conftest import run

AWAY, HERE = "eam/assets", "eam/sites"


async def deliver(stage: Stage, to: Connection, entity: str, count: int = 1) -> list[Receipt]:
    """A delivery for each of `count` records of `entity` that just changed."""
    keys = await changed(stage, to, entity, count)
    return [await stage.deliver(event_of(entity, [key]), to=to) for key in keys]


async def statuses(stage: Stage, receipts: Sequence[Receipt]) -> list[str]:
    return [(await stage.event(receipt.id)).status for receipt in receipts]


async def due_at_once(stage: Stage, receipts: Sequence[Receipt]) -> None:
    async with stage.rt.store.write() as session:
        await session.execute(
            update(WebhookEvent)
            .where(col(WebhookEvent.id).in_([receipt.id for receipt in receipts]))
            .values(next_attempt_at=utcnow())
        )


async def handed_on(stage: Stage) -> list[str]:
    """The ids of the events that were handed on, in order."""
    return [row.payload["event"] for row in await stage.forwards()]


@pytest.mark.parametrize("status", [500, 503])
async def test_what_came_for_another_entity_passes(stage: Stage, status: int) -> None:
    [connection, *_] = stage.connections
    await stage.control("settings", refused=f"{AWAY}={status}")
    waiting = await deliver(stage, connection, AWAY, 2)
    passing = await deliver(stage, connection, HERE)
    await stage.process()
    assert await statuses(stage, passing) == ["processed"]
    late = await deliver(stage, connection, AWAY) + await deliver(stage, connection, HERE)
    await stage.process()
    assert await statuses(stage, late) == ["pending", "processed"]
    blocked = await stage.event(late[0].id)
    assert blocked.attempts == 0, "what is behind one that can't be read is not tried"
    assert await statuses(stage, waiting) == ["pending", "pending"]
    await stage.control("settings", refused="")
    await make_due(stage)
    await stage.process()
    ordered = [receipt.id for receipt in (*passing, late[1], *waiting, late[0])]
    assert await handed_on(stage) == ordered


async def test_one_that_hangs_is_passed_as_well(stage: Stage) -> None:
    [connection, *_] = stage.connections
    front = Front(stage.fleet.url)
    waiting = await deliver(stage, connection, AWAY)
    stuck = (await stage.event(waiting[0].id)).body
    assert stuck is not None
    front.hangs = lambda last: last.encode() in stuck
    async with fronted(stage, front) as seen:
        hurried = (await seen.rt.app("default")).model_copy(update={"timeout_seconds": 1.0})
        await save_blocks(seen.rt.store, Blocks(apps=[hurried]), now=utcnow())
        passing = await deliver(stage, connection, HERE)
        await process_record_events(seen.rt)
        front.ended.set()
    assert await statuses(stage, [*waiting, *passing]) == ["pending", "processed"]


async def test_where_the_connection_is_away_nobody_passes(stage: Stage) -> None:
    [connection, *_] = stage.connections

    def away(_: str) -> Response:
        return JSONResponse({"message": "Down."}, 503)

    front = Front(stage.fleet.url, answer=away)
    async with fronted(stage, front) as seen:
        receipts = await deliver(stage, connection, AWAY) + await deliver(stage, connection, HERE)
        await process_record_events(seen.rt)
        front.answer = lambda _: None
        events = [await stage.event(receipt.id) for receipt in receipts]
        assert {event.next_attempt_at for event in events} == {events[0].next_attempt_at}
        assert len({event.ordering_key for event in events}) == 1
        await make_due(stage)
        await process_record_events(seen.rt)
    assert await handed_on(stage) == [receipt.id for receipt in receipts]


async def test_that_it_waited_for_calls_is_not_counted_against_an_event(stage: Stage) -> None:
    """A first trouble after a long wait is tried again, as a first one."""
    [connection, *_] = stage.connections

    def busy(_: str) -> Response:
        return JSONResponse({"message": "Slow down."}, 429, {"Retry-After": "1"})

    front = Front(stage.fleet.url, answer=busy)
    async with fronted(stage, front) as seen:
        [receipt] = await deliver(stage, connection, HERE)
        for _ in range(MOST_CALLS + 1):
            await make_due(stage)
            await process_record_events(seen.rt)
        assert (await stage.event(receipt.id)).attempts <= 2
        await asyncio.sleep(1.5)  # until the pause that it asked for is over
        front.answer = lambda _: JSONResponse({"message": "Down."}, 503)
        await make_due(stage)
        await process_record_events(seen.rt)
        assert await statuses(stage, [receipt]) == ["pending"]
        front.answer = lambda _: None
        await make_due(stage)
        await process_record_events(seen.rt)
    assert await statuses(stage, [receipt]) == ["processed"]


async def test_within_an_entity_the_order_holds_for_several_consumers(stage: Stage) -> None:
    [connection, *_] = stage.connections
    await stage.control("settings", refused=f"{AWAY}=500")
    waiting = await deliver(stage, connection, AWAY, 3)
    await stage.process()
    await stage.control("settings", refused="")
    async with stage.rt.store.write() as session:  # a claim of somebody else's holds the first
        await session.execute(
            update(WebhookEvent)
            .where(col(WebhookEvent.id) == waiting[0].id)
            .values(claimed_by="another", next_attempt_at=utcnow().replace(year=2999))
        )
    late = await deliver(stage, connection, AWAY) + await deliver(stage, connection, HERE)
    await due_at_once(stage, waiting[1:])
    await stage.process()
    assert await statuses(stage, [*waiting, *late]) == [*["pending"] * 4, "processed"]
    async with stage.rt.store.write() as session:
        await session.execute(
            update(WebhookEvent)
            .where(col(WebhookEvent.id) == waiting[0].id)
            .values(claimed_by=None)
        )
    await make_due(stage)
    await stage.process()
    assert await handed_on(stage) == [late[1].id, *(each.id for each in waiting), late[0].id]


async def test_one_that_is_dead_is_replayed_in_the_order_of_its_connection(stage: Stage) -> None:
    [connection, *_] = stage.connections
    await stage.control("settings", refused=f"{AWAY}=500")
    dead, blocked = await deliver(stage, connection, AWAY, 2)
    await stage.process()
    async with stage.rt.store.write() as session:
        await session.execute(
            update(WebhookEvent).where(col(WebhookEvent.id) == dead.id).values(attempts=100)
        )
    await due_at_once(stage, [dead])
    await stage.process()
    assert await statuses(stage, [dead, blocked]) == ["dead", "pending"]
    await stage.control("settings", refused="")
    app = await stage.rt.app("default")
    async for _ in replay(stage.rt.store, {"default": app}, Selection("dead"), now=utcnow()):
        pass
    again = [event for event in await stage.events() if event.replay_of == dead.id]
    assert [event.ordering_key for event in again] == [f"default/{connection.makini_key}"]
    await make_due(stage)
    await stage.process()
    assert (await stage.event(again[0].id)).status == "processed"
    assert await statuses(stage, [blocked]) == ["processed"]


async def test_a_poll_knows_that_what_waits_aside_was_announced(stage: Stage) -> None:
    [connection, *_] = stage.connections
    await run(stage.rt, full=True)
    await stage.control("settings", refused=f"{AWAY}=500")
    [waiting] = await deliver(stage, connection, AWAY)
    await stage.process()
    await stage.control("settings", refused="")
    await run(stage.rt, full=True)
    assert await statuses(stage, [waiting]) == ["pending"]
    async with stage.rt.store.read() as session:
        [change] = await session.scalars(select(Change))
    assert (change.op, change.recovered) == ("inserted", False)


async def test_a_long_event_is_passed_by_what_came_for_another_entity(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    [connection, *_] = stage.connections
    monkeypatch.setattr("linekeeper.consumer.readers.READ_SECONDS", 1.0)
    keys = await changed(stage, connection, AWAY, 9)
    mine = await changed(stage, connection, HERE)
    front = Front(stage.fleet.url, last_filter_only=True, hangs=lambda last: last in keys[4:])
    async with fronted(stage, front) as seen:
        long = await seen.deliver(event_of(AWAY, keys), to=connection)
        short = await seen.deliver(event_of(HERE, mine), to=connection)
        await process_record_events(seen.rt)
        assert await statuses(stage, [long, short]) == ["pending", "processed"]


async def test_what_comes_while_the_first_is_being_read_is_behind_it(stage: Stage) -> None:
    """It could be read, and is not: the first one failed meanwhile."""
    [connection, *_] = stage.connections
    await stage.control("settings", refused=f"{AWAY}=500")
    [waiting] = await deliver(stage, connection, AWAY)
    await stage.process()
    await stage.control("settings", refused="")
    stuck = (await stage.event(waiting.id)).body
    assert stuck is not None
    front = Front(stage.fleet.url, hangs=lambda last: last.encode() in stuck)
    async with fronted(stage, front) as seen:
        hurried = (await seen.rt.app("default")).model_copy(update={"timeout_seconds": 3.0})
        await save_blocks(seen.rt.store, Blocks(apps=[hurried]), now=utcnow())
        await make_due(stage)
        async with RecordEvents(seen.rt) as events, running(events.step) as until:

            async def hangs() -> bool:
                return front.held_open == 1

            async def is_decided() -> bool:
                first, other = [await stage.event(each.id) for each in (waiting, late)]
                return other.status != "pending" or other.ordering_key == first.ordering_key

            await until(hangs)
            [late] = await deliver(stage, connection, AWAY)
            await until(is_decided)
        assert await statuses(stage, [waiting, late]) == ["pending", "pending"]
        front.hangs = lambda _: False
        front.ended.set()
        await make_due(stage)
        await seen.process()
    assert await handed_on(stage) == [waiting.id, late.id]
