"""A receiver delivers what is for Slack where a consumer lives, but does not deliver it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from linekeeper.incidents.announce import say
from linekeeper.receiver.standby import LEASE, Standby
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.leases import acquire
from linekeeper.watch.queries import beat, read_parts
from sandbox import Served, serving
from sandbox import Settings as SandboxSettings

OLD = timedelta(minutes=16)
"""Older than `WATCH_MINUTES`."""


@pytest.fixture
async def slack() -> AsyncIterator[Served]:
    """A Slack, empty."""
    async with serving(SandboxSettings(port=0, connections=0, records_per_connection=0)) as served:
        yield served


@pytest.fixture
async def runtime(settings: Settings, slack: Served) -> AsyncIterator[Runtime]:
    """That of a receiver which speaks to it."""
    more = {
        "slack_bot_token": slack.world.settings.slack_token,
        "slack_channel": "#linekeeper",
        "slack_api_url": f"{slack.url}/slack/api/",
    }
    own = Settings(_env_file=None, **{**settings.model_dump(), **more})
    async with Runtime.open(own, kind="receiver") as rt:
        yield rt


async def queue(store: Store, words: str, ago: timedelta) -> None:
    """A message for Slack that was due `ago`."""
    async with store.write() as session:
        now = await store.clock(session)
        await say(store, session, words, words, now - ago)


def said(slack: Served) -> list[str]:
    return [str(message["text"]) for message in slack.world.slack.snapshot()]


async def test_what_a_living_consumer_does_not_deliver_in_time_the_receiver_does(
    runtime: Runtime, store: Store, slack: Served
) -> None:
    standby = Standby(runtime)
    await beat(store, "consumer:c", "consumer", "there")
    await queue(store, "just now", timedelta())
    assert not await standby.deliver_if_nobody_does()
    assert said(slack) == []
    await queue(store, "long ago", OLD)
    async with store.read() as session:
        now = await store.clock(session)
    held = await acquire(store, LEASE, "another receiver", seconds=60, now=now)
    assert held is not None
    assert not await standby.deliver_if_nobody_does()  # the other one does
    assert said(slack) == []
    async with store.write() as session:
        await session.execute(text("DELETE FROM lease"))
    assert await standby.deliver_if_nobody_does()
    assert set(said(slack)) >= {"long ago"}
    assert not await standby.deliver_if_nobody_does()


async def test_a_watch_that_fails_goes_on_and_is_named(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One error that nobody foresaw is no end of the watch, nor of the receiver."""
    monkeypatch.setattr("linekeeper.watch.service.FASTEST_BEAT", 0.05)
    monkeypatch.setattr("linekeeper.watch.service.SLOWEST_BEAT", 0.05)
    looks = 0
    works = asyncio.Event()

    async def watch_runs(_: Store) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise ValueError("nobody foresaw it")
        works.set()

    monkeypatch.setattr("linekeeper.watch.service.watch_runs", watch_runs)
    standby = Standby(runtime)
    with caplog.at_level(logging.ERROR):
        running = asyncio.create_task(standby.run())
        async with asyncio.timeout(60):
            await works.wait()
        assert not running.done()
        running.cancel()
        await asyncio.wait({running})
        await standby.end()
    assert running.cancelled()
    assert ["ValueError" in record.message for record in caplog.records] == [True]


async def test_a_receiver_that_ends_amid_a_look_leaves_nothing_of_it_behind(
    runtime: Runtime, store: Store
) -> None:
    """A heartbeat written after the end would have the others say that this part is silent."""
    standby = Standby(runtime)
    lock = "DELETE FROM lease" if store.is_sqlite else "LOCK TABLE part_heartbeat"
    async with store.write() as other:
        await other.execute(text(lock))
        watching = asyncio.create_task(standby.run())
        await asyncio.sleep(0.3)  # it waits for the lock: SQLite asks again 0.1 s apart
        watching.cancel()
        ending = asyncio.create_task(standby.end())
        await asyncio.sleep(0.1)
    await asyncio.gather(watching, ending, return_exceptions=True)
    assert [task.get_name() for task in asyncio.all_tasks() if "watch" in task.get_name()] == []
    async with store.read() as session:
        [ended] = await read_parts(session, now=await store.clock(session))
    assert (ended.kind, ended.host) == ("ended", "receiver")
