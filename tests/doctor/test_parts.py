"""The doctor names every part, and what is silent or overdue."""

from contextlib import AsyncExitStack
from datetime import timedelta

from sqlalchemy import update
from sqlmodel import col

from linekeeper.doctor.house import examine_parts
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import new_id
from linekeeper.store.leases import READS, TOKENS, holding
from linekeeper.store.tables import PartHeartbeat
from linekeeper.watch.queries import beat, note_prefect, remove


async def test_every_part_is_named_with_what_is_wrong(settings: Settings) -> None:
    settings = settings.model_copy(update={"makini_api_url": "http://127.0.0.1:9"})
    async with Runtime.open(settings) as rt:
        assert await examine_parts(rt) == []
        await beat(rt.store, "consumer:a:1:x", "consumer", "a")
        await beat(rt.store, "receiver:b:1:x", "receiver", "b")
        assert {(finding.name, finding.level) for finding in await examine_parts(rt)} == {
            ("consumer · a", "ok"),
            ("receiver · b", "ok"),
        }
        async with rt.store.write() as session:
            now = await rt.store.clock(session)
            await session.execute(update(PartHeartbeat).values(since=now - timedelta(hours=1)))
            await session.execute(
                update(PartHeartbeat)
                .where(col(PartHeartbeat.kind) == "receiver")
                .values(at=now - timedelta(minutes=16))
            )
        findings = await examine_parts(rt)
        assert {(finding.name, finding.level) for finding in findings} == {
            ("consumer · a", "ok"),
            ("receiver · b", "wrong"),
            ("overdue", "wrong"),
        }
        async with holding(rt.store, "health-sweep", "run-1"):
            [lease] = [each for each in await examine_parts(rt) if "lease" in each.name]
            assert (lease.name, lease.level) == ("lease · health-sweep", "ok")
            assert lease.text.startswith("held by run-1 until ")


async def test_of_what_is_done_for_single_connections_the_number_is_said(
    settings: Settings,
) -> None:
    """A whole reconcile of a big fleet held a hundred of them, each with a line of its own."""
    async with Runtime.open(settings) as rt, AsyncExitStack() as held:
        connections = [new_id() for _ in range(3)]
        for kind, subject in [*((READS, each) for each in connections), (TOKENS, connections[0])]:
            await held.enter_async_context(holding(rt.store, kind, "run-1", subject=subject))
        findings = [each for each in await examine_parts(rt) if "lease" in each.name]
        assert [(each.name, each.level, each.text) for each in findings] == [
            ("lease · connections", "ok", "work on 3 connections")
        ]


async def test_while_prefect_hangs_nothing_is_known_of_its_workers(settings: Settings) -> None:
    async with Runtime.open(settings) as rt:
        await beat(rt.store, "consumer:a:1:x", "consumer", "a")
        await note_prefect(rt.store, {"vm": "first"}, paused=False)
        assert ("worker · vm", "ok", "works") in [
            (finding.name, finding.level, finding.text) for finding in await examine_parts(rt)
        ]
        async with rt.store.write() as session:
            now = await rt.store.clock(session)
            long_ago = now - timedelta(minutes=5)
            await session.execute(
                update(PartHeartbeat)
                .where(col(PartHeartbeat.kind).in_(("prefect", "worker")))
                .values(at=long_ago)
            )
        found = {finding.name: finding for finding in await examine_parts(rt)}
    assert found["consumer · a"].level == "ok"
    assert (found["prefect"].level, found["prefect"].text) == (
        "warn",
        f"silent since {long_ago:%Y-%m-%d %H:%M} UTC",
    )
    worker = found["worker · vm"]
    assert worker.level == "warn"
    assert worker.text.startswith(f"not known since {long_ago:%Y-%m-%d %H:%M} UTC: only Prefect")
    assert worker.fix == "fix Prefect first"


async def test_a_consumer_that_was_ended_and_not_started_again_is_wrong(settings: Settings) -> None:
    async with Runtime.open(settings) as rt:
        await beat(rt.store, "consumer:a:1:x", "consumer", "a")
        await beat(rt.store, "receiver:b:1:x", "receiver", "b")
        await note_prefect(rt.store, {"vm": "first"}, paused=False)
        await remove(rt.store, ["consumer:a:1:x"])
        found = {finding.name: finding for finding in await examine_parts(rt)}
    assert (found["consumer"].level, found["consumer"].text) == ("wrong", "none runs")
    assert found["consumer"].fix == "start it: linekeeper consumer"
    assert found["prefect"].text.endswith("no consumer asks it")
    worker = found["worker · vm"]
    assert (worker.level, worker.fix) == ("warn", "start one: linekeeper consumer")
    assert "does not answer" not in worker.text, "Prefect may be well: nobody asks it"


async def test_what_was_killed_and_started_again_on_its_host_is_not_named_beside_its_successor(
    settings: Settings,
) -> None:
    async with Runtime.open(settings) as rt:
        for name, kind, host in (
            ("receiver:a:1:x", "receiver", "a"),
            ("receiver:b:1:x", "receiver", "b"),
            ("consumer:a:1:x", "consumer", "a"),
        ):
            await beat(rt.store, name, kind, host)
        async with rt.store.write() as session:
            killed = await rt.store.clock(session) - timedelta(minutes=6)
            await session.execute(
                update(PartHeartbeat)
                .where(col(PartHeartbeat.kind) == "receiver")
                .values(since=killed - timedelta(hours=1), at=killed)
            )
        await beat(rt.store, "receiver:a:2:y", "receiver", "a")
        found = [(each.name, each.level) for each in await examine_parts(rt)]
    assert sorted(found) == [
        ("consumer · a", "ok"),
        ("receiver · a", "ok"),
        ("receiver · b", "warn"),
    ]


async def test_the_floor_below_which_watch_minutes_is_not_taken_is_said(settings: Settings) -> None:
    for minutes, is_said in ((3, True), (15, False)):
        own = settings.model_copy(update={"watch_minutes": minutes})
        async with Runtime.open(own) as rt:
            said = [each.text for each in await examine_parts(rt) if each.name == "watch minutes"]
        assert [("3 min" in text, "sweep not before 10 min" in text) for text in said] == (
            [(True, True)] if is_said else []
        )
