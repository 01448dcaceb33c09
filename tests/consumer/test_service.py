"""The consumer survives what happens to its loops, hears of changes, and ends when asked."""

import asyncio
import logging
import os
import signal
import sys
from datetime import timedelta

import pytest
from sqlmodel import select

from linekeeper.cli.orchestrator import PrefectOrchestrator
from linekeeper.clock import utcnow
from linekeeper.consumer import run_consumer
from linekeeper.consumer.loops import ServiceLoop, keep
from linekeeper.consumer.waker import Waker
from linekeeper.incidents.announce import say
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Lease, Outbox


async def statuses(store: Store) -> dict[str, str]:
    """Channel → status of its one row."""
    async with store.read() as session:
        found = await session.execute(select(Outbox.channel, Outbox.status))
        return {row.channel: row.status for row in found}


async def test_with_prefect_away_slack_goes_on_and_the_rest_waits(
    settings: Settings, nobody: PrefectOrchestrator
) -> None:
    stop = asyncio.Event()
    async with Runtime.open(settings) as rt:
        consumer = asyncio.create_task(
            run_consumer(rt, nobody, find_links=nobody.find_links, stop=stop)
        )
        async with rt.store.write() as session:
            await say(rt.store, session, "hello", "Hello", utcnow())
            row = Message("run", new_id(), {"deployment": "doctor"})
            await enqueue(rt.store, session, [row], now=utcnow())
        async with asyncio.timeout(20):
            while (await statuses(rt.store))["slack"] == "pending":
                await asyncio.sleep(0.05)
        assert (await statuses(rt.store))["run"] == "pending"
        assert not consumer.done()
        stop.set()
        async with asyncio.timeout(5):
            await consumer


async def test_a_loop_that_fails_is_told_of_once_and_goes_on(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linekeeper.consumer.loops.MAX_BACK_OFF", 0.0)
    stop, tries = asyncio.Event(), 0

    async def step() -> bool:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise OSError("no route")
        stop.set()
        return False

    with caplog.at_level(logging.INFO, logger="linekeeper.consumer"):
        await keep(ServiceLoop("events", step, every=0.0), Waker(store), stop)
    assert [record.message for record in caplog.records] == [
        "events: OSError: no route; trying again",
        "events: works again",
    ]


async def test_who_waits_hears_of_a_write_at_once_and_not_only_in_time(
    settings: Settings, store: Store
) -> None:
    waker = Waker(store)
    watching = asyncio.create_task(waker.run())
    async with Store.open(settings) as another, asyncio.timeout(20):
        waiting = asyncio.create_task(waker.wait("run", 0, seconds=600))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        async with another.write() as session:
            await enqueue(another, session, [Message("run", new_id())], now=utcnow())
        await waiting
        await waker.wait("run", 0, seconds=600)  # it was seen before we looked: no waiting
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_what_others_write_wakes_only_who_waits_for_it(
    settings: Settings, store: Store
) -> None:
    waker = Waker(store)
    watching = asyncio.create_task(waker.run())
    async with Store.open(settings) as another, asyncio.timeout(20):
        for number in range(20):
            async with another.write() as session:
                session.add(Lease(name=f"busy {number}", owner="other", until=utcnow()))
            await asyncio.sleep(0.02)
        assert not waker.seen
        tomorrow = utcnow() + timedelta(days=1)
        async with another.write() as session:
            messages = [
                Message("slack", new_id(), not_before=tomorrow),
                Message("email", new_id()),
            ]
            await enqueue(another, session, messages, now=utcnow())
        await waker.wait("email", 0, seconds=600)
        assert set(waker.seen) == {"email"}
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_the_command_says_ready_and_ends_when_asked(settings: Settings) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "linekeeper.cli",
        "consumer",
        env={
            **os.environ,
            "LINEKEEPER_HOME": str(settings.home),
            "LINEKEEPER_DATABASE_URL": settings.resolved_database_url,
            "LINEKEEPER_ENCRYPTION_KEYS": settings.encryption_keys[0].get_secret_value(),
            "LINEKEEPER_PREFECT_PORT": "1",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = await process.stdout.readline()
    assert line.decode().startswith("consumer ready")
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        _, errors = await process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in errors
