"""The consumer survives what happens to its loops, hears of changes, and ends when asked."""

import asyncio
import logging
import os
import signal
import sys
from datetime import timedelta

import pytest
from sqlmodel import select

from linekeeper.clock import utcnow
from linekeeper.consumer.loops import ServiceLoop, keep
from linekeeper.consumer.service import run_consumer
from linekeeper.consumer.waker import Waker
from linekeeper.incidents.announce import say
from linekeeper.notify.channels import remember
from linekeeper.notify.view import FORMS, Links
from linekeeper.outbox.queue import Message, enqueue
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.tables import CallCount, Incident, Lease, Outbox
from tasks.prefect_adapter.orchestrator import PrefectOrchestrator
from tests.flows.conftest import on_both


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


@pytest.mark.parametrize("logins", [False, True])
async def test_calls_are_counted_though_no_further_one_follows(
    settings: Settings, nobody: PrefectOrchestrator, logins: bool
) -> None:
    stop = asyncio.Event()
    async with Runtime.open(settings) as rt:
        budget = rt.login_budget if logins else rt.budget
        consumer = asyncio.create_task(
            run_consumer(rt, nobody, find_links=nobody.find_links, stop=stop)
        )
        for _ in range(3):
            await budget.take("default", 600)
        async with asyncio.timeout(30):
            while await counted(rt.store) < 3:
                await asyncio.sleep(0.1)
        stop.set()
        await consumer


async def counted(store: Store) -> int:
    """The calls that are counted in the database."""
    async with store.read() as session:
        return sum(await session.scalars(select(CallCount.calls)))


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


async def test_a_loop_that_failed_for_days_still_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At half a minute a try: Prefect is away over a weekend."""
    monkeypatch.setattr("linekeeper.consumer.loops.MAX_BACK_OFF", 0.0)
    stop, tries = asyncio.Event(), 0

    async def step() -> bool:
        nonlocal tries
        tries += 1
        if tries < 6_000:
            raise OSError("no route")
        stop.set()
        return False

    await keep(ServiceLoop("block settings", step, every=0.0), Waker(store), stop)
    assert tries == 6_000


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


@on_both  # on PostgreSQL: tests/watch/test_parts.py
@pytest.mark.repeats(
    "e2e/test_whole.py::test_everything_starts_is_kept_running_and_ends_on_a_signal"
)
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


async def test_forms_that_prefect_gets_later_are_looked_for_and_messages_lead_to_them(
    settings: Settings, nobody: PrefectOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linekeeper.consumer.service.MISSING_LINKS_EVERY", 0.05)
    stop, asked = asyncio.Event(), 0

    async def find_links() -> Links:
        """A Prefect into which `deploy` puts one deployment after the other."""
        nonlocal asked
        asked += 1
        there = FORMS[: asked - 1]
        return Links(ui_url="http://127.0.0.1:4200", deployments={name: name for name in there})

    async with Runtime.open(settings) as rt:
        now = utcnow()
        incident = Incident(
            kind="unreachable",
            scope="connection",
            cause="test",
            app="default",
            title="Acme",
            opened_at=now,
        )
        async with rt.store.write() as session:
            session.add(incident)
        await remember(
            rt.store, f"incident:{incident.id}", "default", ts="1.0", channel_id="C1", now=now
        )
        consumer = asyncio.create_task(run_consumer(rt, nobody, find_links=find_links, stop=stop))

        async def edits() -> int:
            async with rt.store.read() as session:
                keys = await session.scalars(select(Outbox.dedupe_key))
                return sum(":forms-" in key for key in keys)

        async with asyncio.timeout(60):
            while not await edits():
                await asyncio.sleep(0.05)
        assert asked > len(FORMS)  # not before the last one was there
        assert await edits() == 1
        stop.set()
        async with asyncio.timeout(15):
            await consumer
