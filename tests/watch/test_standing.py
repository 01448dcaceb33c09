"""Each part and since when, as `linekeeper status` shows it."""

import asyncio
import json
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col

from linekeeper.store import Store
from linekeeper.store.tables import PartHeartbeat
from linekeeper.watch.queries import beat, done, note_prefect, remove
from tests.cli.commands import CommandLine
from tests.cli.conftest import command, shown

__all__ = ["command", "shown"]


async def ago(store: Store, part: str, **columns: timedelta) -> None:
    """As if `part` had said so that long ago."""
    async with store.write() as session:
        now = await store.clock(session)
        await session.execute(
            update(PartHeartbeat)
            .where(col(PartHeartbeat.part) == part)
            .values({name: now - span for name, span in columns.items()})
        )


async def test_status_shows_each_part_and_since_when(store: Store, shown: CommandLine) -> None:
    nobody = await asyncio.to_thread(shown, "status")
    assert "no part of Linekeeper has run here yet" in nobody.out

    hour, week = timedelta(hours=1), timedelta(days=7)
    await beat(store, "receiver:r", "receiver", "web1")
    await ago(store, "receiver:r", since=timedelta(hours=3))
    await beat(store, "consumer:c", "consumer", "app1")
    await ago(store, "consumer:c", since=week, at=hour)
    await done(store, "digest")
    await ago(store, "digest", since=week, at=week)

    said = await asyncio.to_thread(shown, "status", "--json")
    parts = {each["kind"]: each for each in json.loads(said.out)["parts"]}
    assert {kind: each["state"] for kind, each in parts.items()} == {
        "receiver": "works",
        "consumer": "silent",
        "digest": "done",
    }
    assert parts["consumer"]["host"] == "app1"
    lines = (await asyncio.to_thread(shown, "status")).out.splitlines()
    [receiver] = [line for line in lines if "receiver" in line]
    [consumer] = [line for line in lines if "consumer" in line]
    assert "works" in receiver
    assert "3 h ago" in receiver
    assert "silent" in consumer
    assert "1 h ago" in consumer


async def test_a_worker_of_the_same_name_is_not_said_to_work_since_another_did(
    store: Store, shown: CommandLine
) -> None:
    await beat(store, "consumer:c", "consumer", "app1")
    await note_prefect(store, {"work1": "its heartbeat"}, paused=False)
    await ago(store, "worker:work1", since=timedelta(minutes=51))
    # It was killed, and another took its name at once: Prefect tells of a heartbeat, as before.
    await note_prefect(store, {"work1": "another's heartbeat"}, paused=False)
    said = await asyncio.to_thread(shown, "status", "--json")
    [worker] = [each for each in json.loads(said.out)["parts"] if each["kind"] == "worker"]
    assert (worker["state"], worker["since"]) == ("works", None)
    lines = (await asyncio.to_thread(shown, "status")).out.splitlines()
    [line] = [line for line in lines if "work1" in line]
    assert "works" in line
    assert "ago" not in line


async def test_status_says_how_old_its_figures_are(
    store: Store, shown: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINEKEEPER_MAKINI_CLIENT_ID", "us")
    await beat(store, "receiver:r", "receiver", "web1")
    await ago(store, "receiver:r", since=timedelta(hours=3))
    await done(store, "sweep")
    assert "no sweep since" not in (await asyncio.to_thread(shown, "status")).out
    await ago(store, "sweep", since=timedelta(hours=3), at=timedelta(hours=2))
    said = (await asyncio.to_thread(shown, "status")).out
    assert "no sweep since" in said
    assert "this is what was known then" in said


async def test_of_what_was_ended_in_good_order_nobody_says_that_it_works(
    store: Store, shown: CommandLine
) -> None:
    await beat(store, "receiver:r", "receiver", "web1")
    await beat(store, "consumer:c", "consumer", "app1")
    await note_prefect(store, {"work1": "its heartbeat"}, paused=False)
    await remove(store, ["receiver:r", "consumer:c"])
    said = json.loads((await asyncio.to_thread(shown, "status", "--json")).out)
    assert {each["kind"]: each["state"] for each in said["parts"]} == {
        "consumer": "stopped",
        "receiver": "stopped",
        "worker": "unknown",
        "prefect": "unknown",
    }
