"""One connection, event or credential that is in trouble holds up itself and nobody else."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col
from starlette.responses import JSONResponse

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig
from linekeeper.consumer.record_events import RecordEvents, process_record_events
from linekeeper.inbox.unrouted import route_again
from linekeeper.orchestrator import Blocks
from linekeeper.outbox.forward import RecoveredChange, forward_changes
from linekeeper.outbox.senders.forward import forwarding
from linekeeper.runtime import Runtime
from linekeeper.store import new_id
from linekeeper.store.configuration import SharedConfiguration, save_blocks
from linekeeper.store.tables import Connection, Credential
from linekeeper.store.trouble import isolate
from tests.inbox.process.front import Front, fronted
from tests.inbox.process.product import serving
from tests.inbox.process.stage import Stage
from tests.inbox.process.test_process_records import changed, event_of, make_due

Step = Callable[[], Awaitable[bool]]


@asynccontextmanager
async def running(*steps: Step) -> AsyncIterator[Callable[[Step], Awaitable[None]]]:
    """Take `steps` as the consumer does, each by itself; gives a way to wait for something."""

    async def keep(step: Step) -> None:
        while True:
            if not await step():
                await asyncio.sleep(0.02)

    async def until(what: Step) -> None:
        async with asyncio.timeout(60):
            while not await what():
                for loop in loops:
                    if loop.done():
                        loop.result()
                await asyncio.sleep(0.02)

    loops = [asyncio.create_task(keep(step)) for step in steps]
    try:
        yield until
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


async def test_what_is_answered_is_settled_and_handed_on_beside_a_connection_that_hangs(
    stage: Stage,
) -> None:
    [connection, two, *_] = stage.connections
    stuck, mine = (
        await changed(stage, connection, "eam/assets", 2),
        await changed(stage, two, "eam/sites"),
    )
    front = Front(stage.fleet.url, hangs=lambda last: last == stuck[0])
    async with fronted(stage, front) as seen:
        hanging = await seen.deliver(event_of("eam/assets", stuck[:1]), to=connection)
        async with (
            RecordEvents(seen.rt) as events,
            forwarding(seen.rt) as forwarder,
            running(events.step, forwarder.step) as until,
        ):

            async def hangs() -> bool:
                return front.held_open == 1

            async def is_handed_on() -> bool:
                return healthy.id in {identity for identity, _ in seen.product.taken}

            await until(hangs)
            healthy = await seen.deliver(event_of("eam/sites", mine), to=two)
            blocked = await seen.deliver(event_of("eam/assets", stuck[1:]), to=connection)
            await until(is_handed_on)
            assert (await stage.event(healthy.id)).status == "processed"
            assert front.held_open == 1
            waiting = [await stage.event(receipt.id) for receipt in (hanging, blocked)]
            assert {event.status for event in waiting} == {"pending"}
        after = [await stage.event(receipt.id) for receipt in (hanging, blocked)]
        assert {event.claimed_by for event in after} == {None}
        front.hangs = lambda _: False
        await make_due(stage)
        await seen.process()
    assert {event.status for event in await stage.events()} == {"processed"}


async def test_a_token_that_is_being_renewed_when_time_runs_out_ends_nobody_elses_batch(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    [connection, two, *_] = stage.connections
    refused, mine = (
        await changed(stage, connection, "eam/assets", 9),
        await changed(stage, two, "eam/sites"),
    )
    monkeypatch.setattr("linekeeper.consumer.readers.READ_SECONDS", 2.0)
    front = Front(stage.fleet.url, last_filter_only=True, hangs=lambda last: last == "token")

    def answer(last: str) -> JSONResponse | None:
        is_over = last == "current" or last in refused[1:]
        return JSONResponse({"message": "Expired."}, 401) if is_over else None

    front.answer = answer
    async with fronted(stage, front) as seen:
        first = await seen.deliver(event_of("eam/assets", refused), to=connection)
        healthy = await seen.deliver(event_of("eam/sites", mine), to=two)
        await process_record_events(seen.rt)
        assert (await stage.event(healthy.id)).status == "processed"
        assert (await stage.event(first.id)).status == "pending"
        assert (await stage.connection(connection)).health == "healthy"
        front.hangs, front.answer = lambda _: False, lambda _: None
        monkeypatch.setattr("linekeeper.consumer.readers.READ_SECONDS", 60.0)
        front.ended.set()
        await make_due(stage)
        await seen.process()
    assert (await stage.event(first.id)).status == "processed"


async def test_a_key_no_database_can_hold_stops_nobody(stage: Stage) -> None:
    [connection, *_] = stage.connections
    keys = await changed(stage, connection, "eam/assets")
    poison = await stage.deliver(event_of("eam/assets", ["a\0b", "\U0001f600" * 300]))
    named = await stage.deliver(event_of("eam/assets", ["a\0b"]), to=connection)
    healthy = await stage.deliver(event_of("eam/assets", keys), to=connection)
    await stage.process()
    assert (await stage.event(healthy.id)).status == "processed"
    assert (await stage.event(named.id)).status == "processed"
    assert (await stage.event(poison.id)).status == "unrouted"
    assert await route_again(stage.rt.store, now=utcnow()) == 0


async def test_a_credential_that_cannot_be_decrypted_holds_up_its_own_connection(
    stage: Stage,
) -> None:
    [connection, two, *_] = stage.connections
    mine, other = (
        await changed(stage, connection, "eam/assets"),
        await changed(stage, two, "eam/sites"),
    )
    async with stage.rt.store.write() as session:
        await session.execute(
            update(Credential)
            .where(col(Credential.connection_id) == connection.id)
            .values(access_token="not a token of ours")
        )
    broken = await stage.deliver(event_of("eam/assets", mine), to=connection)
    healthy = await stage.deliver(event_of("eam/sites", other), to=two)
    await stage.process()
    assert (await stage.event(healthy.id)).status == "processed"
    assert (await stage.event(broken.id)).status == "deferred"


async def test_what_fails_among_many_fails_alone() -> None:
    calls = 0

    async def work(items: object) -> list[int]:
        nonlocal calls
        calls += 1
        assert isinstance(items, list)
        if {13, 700} & set(items):
            raise ValueError("poison")
        return items

    results, failed = await isolate(list(range(1_000)), work)
    assert sorted(itertools.chain(*results)) == [n for n in range(1_000) if n not in (13, 700)]
    assert sorted((item, str(error)) for item, error in failed) == [(13, "poison"), (700, "poison")]
    assert calls < 50


async def test_settings_are_read_before_a_transaction_begins(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all of the pool's connections writing, nobody may need a second one."""
    [connection, *_] = stage.connections
    keys = await changed(stage, connection, "eam/assets")
    receipt = await stage.deliver(event_of("eam/assets", keys), to=connection)
    settings = stage.rt.settings
    async with Runtime.open(settings) as rt:
        await rt.configuration()
        original, inside = rt.store.write, ContextVar("inside", default=False)

        async def configuration() -> object:
            assert not inside.get(), "settings are read inside a transaction"
            return await SharedConfiguration(rt.store, settings).read()

        @asynccontextmanager
        async def write() -> AsyncIterator[AsyncSession]:
            async with original() as session:
                inside.set(True)
                try:
                    yield session
                finally:
                    inside.set(False)

        monkeypatch.setattr(rt.store, "write", write)
        monkeypatch.setattr(rt, "configuration", configuration)
        await process_record_events(rt)
    assert (await stage.event(receipt.id)).status == "processed"


async def test_a_product_that_hangs_slows_no_other_app(stage: Stage) -> None:
    [one, two, *_] = stage.connections
    ended = asyncio.Event()
    held_open = 0

    async def hanging(scope: Any, receive: Any, send: Any) -> None:
        nonlocal held_open
        held_open += 1
        await ended.wait()
        held_open -= 1
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(hanging) as url:
        app = await stage.rt.app("default")
        other = app.model_copy(update={"name": "other", "forward_url": url})
        await save_blocks(stage.rt.store, Blocks(apps=[app, other]), now=utcnow())

        async def change(to: AppConfig, connection: Connection) -> str:
            made = RecoveredChange(
                new_id(),
                connection.id,
                connection.makini_key,
                "eam/assets",
                "1",
                "updated",
                utcnow(),
            )
            async with stage.rt.store.write() as session:
                await forward_changes(stage.rt.store, session, to, [made], now=utcnow())
            return made.id

        async def hangs() -> bool:
            return held_open == 1

        await change(other, one)
        async with (
            Runtime.open(stage.rt.settings) as rt,
            forwarding(rt) as forwarder,
            running(forwarder.step) as until,
        ):
            await until(hangs)
            wanted = {await change(app, two) for _ in range(3)}

            async def is_handed_on() -> bool:
                return {identity for identity, _ in stage.product.taken} == wanted

            await until(is_handed_on)
            assert held_open == 1
            ended.set()
