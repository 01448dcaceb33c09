"""Workers share a run and take over what another left; our own outages are covered."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.notify.view import FROM_A_PAGE, Links
from linekeeper.reconcile.measure import measure
from linekeeper.reconcile.outage import note_outages
from linekeeper.reconcile.together import together
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store.tables import (
    Connection,
    Drift,
    Lease,
    Outage,
    Outbox,
    Watermark,
    WebhookTrust,
)
from linekeeper.views.trust_page import trust_headline, trust_markdown
from linekeeper.views.trust_queries import trust_report
from tests.reconcile.conftest import Check, Peer, away, drift, feed, pointed_at, run


async def test_two_shards_read_each_connection_once_and_add_up(
    rt: Runtime, settings: Settings, peer: Peer, agree: Check
) -> None:
    await run(rt)
    await peer.set("records", change=40, announce=False)
    async with rt.store.read() as session:
        marks = len(list(await session.scalars(select(Watermark).where(col(Watermark.offered)))))
    await peer.calls()
    started = utcnow()
    async with Runtime.open(pointed_at(settings, peer.url)) as other:
        first, second = await asyncio.gather(
            run(rt, shard="a", started=started), run(other, shard="b", started=started)
        )
    await agree()
    calls = await peer.calls()
    assert sum(n for call, n in calls.items() if call.startswith("GET /api/e")) == marks
    assert not first.connections & second.connections
    assert first.counts.missed + second.counts.missed == 40
    both = await together(rt.store, started, whose="shards")
    assert (both.connections, both.counts.missed) == (4, 40)


async def test_what_a_run_of_some_connections_finds_is_no_find_of_the_one_beside_it(
    rt: Runtime, settings: Settings, peer: Peer, one: Connection, agree: Check
) -> None:
    await run(rt)
    await peer.set("records", change=40, announce=False)
    began = utcnow()
    async with Runtime.open(pointed_at(settings, peer.url)) as other:
        named_at = began + timedelta(milliseconds=1)
        named, whole = await asyncio.gather(
            run(rt, connections=[one.id], started=named_at), run(other, started=began)
        )
    await agree()
    of_named = await together(rt.store, named_at, connections=[one.id], whose="run")
    of_whole = await together(rt.store, began, whose="run")
    assert (of_named.connections, of_whole.connections) == (1, 4)
    found = (of_named.counts.recovered, of_whole.counts.recovered)
    assert found == (named.counts.recovered, whole.counts.recovered)
    assert sum(found) == 40


async def test_what_a_run_of_some_connections_finds_is_no_find_of_the_shards_beside_it(
    rt: Runtime, settings: Settings, peer: Peer, one: Connection, agree: Check
) -> None:
    await run(rt)
    await peer.set("records", change=40, announce=False)
    began = utcnow()
    named = await run(rt, connections=[one.id], started=began + timedelta(milliseconds=1))
    async with Runtime.open(pointed_at(settings, peer.url)) as other:
        shards = await asyncio.gather(
            run(rt, shard="a", started=began),
            run(other, shard="b", started=began + timedelta(milliseconds=2)),
        )
    await agree()
    assert named.counts.missed > 0
    of_all = await together(rt.store, began, whose="shards")
    found = sum(shard.counts.recovered for shard in shards)
    assert (of_all.connections, of_all.counts.recovered) == (4, found)
    assert found + named.counts.recovered == 40


async def test_what_a_dead_worker_had_claimed_is_taken_over(
    rt: Runtime, peer: Peer, one: Connection, agree: Check
) -> None:
    async with rt.store.write() as session:
        until = utcnow() + timedelta(seconds=1)
        session.add(Lease(name=f"reconcile:{one.id}", owner="routine|dead", until=until, fence=7))

    async def moment(_: float) -> None:
        await asyncio.sleep(0.05)

    done = await run(rt, sleep=moment)
    assert one.id in done.connections
    await agree()


async def test_nobody_waits_for_a_connection_that_is_being_listed_whole(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    async with rt.store.write() as session:
        until = utcnow() + timedelta(hours=1)
        await session.merge(
            Lease(name=f"reconcile:{one.id}", owner="alive", purpose="full", until=until, fence=7)
        )
        await session.flush()
    done = await run(rt)
    assert len(done.connections) == 3


@pytest.mark.parametrize(("hours", "starts"), [(3.0, False), (30.0, True)])
async def test_an_outage_of_ours_is_covered_by_the_next_run_and_no_reason_to_distrust(
    rt: Runtime, peer: Peer, hours: float, starts: bool, agree: Check
) -> None:
    """B6: our own outage is caught up."""
    await run(rt)
    await away(rt.store, hours)
    assert len(await note_outages(rt.store, now=utcnow(), starting_runs=True)) == 1
    assert await note_outages(rt.store, now=utcnow(), starting_runs=True) == []
    async with rt.store.read() as session:
        runs = list(await session.scalars(select(Outbox).where(col(Outbox.channel) == "run")))
    assert [row.payload["deployment"] for row in runs] == (["reconcile"] if starts else [])
    async with rt.store.write() as session:
        for mark in await session.scalars(select(Watermark)):
            if mark.polled_at is not None:
                mark.polled_at -= timedelta(hours=hours + 1)
            session.add(mark)
        await session.flush()
    await peer.set("records", change=30, announce=False)
    await run(rt, everything=False)
    await agree()
    assert len(await feed(rt)) == 30
    assert {row.cause for row in await drift(rt)} == {"outage"}
    assert all(verdict.measured.changes == 0 for verdict in await measure(rt, now=utcnow()))
    async with rt.store.read() as session:
        [outage] = await session.scalars(select(Outage))
        said = [
            str(row.payload["text"])
            for row in await session.scalars(select(Outbox).where(col(Outbox.channel) == "slack"))
            if "text" in row.payload
        ]
    assert outage.covered_at is not None
    assert outage.detail == {"connections": 4, "recovered": 30, "left": 0}
    [text] = [line for line in said if "receiver was away" in line]
    assert "30 changes backfilled" in text
    assert ("longer than senders go on asking" in text) == starts
    await run(rt)
    async with rt.store.read() as session:
        [outage] = await session.scalars(select(Outage))
    assert outage.detail["recovered"] == 30


async def test_what_waits_after_a_failure_is_not_said_to_have_been_read_after_an_outage(
    rt: Runtime, one: Connection
) -> None:
    await run(rt)
    await away(rt.store, 3)
    await note_outages(rt.store, now=utcnow())
    async with rt.store.write() as session:
        await session.execute(
            update(Watermark)
            .where(col(Watermark.polled_at).is_not(None))
            .values(polled_at=utcnow() - timedelta(hours=4))
        )
        await session.execute(
            update(Watermark)
            .where(col(Watermark.connection_id) == one.id)
            .values(retry_at=utcnow() + timedelta(hours=1))
        )
    await run(rt, everything=False)
    async with rt.store.read() as session:
        [outage] = await session.scalars(select(Outage))
        said = await session.scalars(select(Outbox.payload).where(col(Outbox.kind) == "say"))
    assert outage.detail == {"connections": 3, "recovered": 0, "left": 1}
    [text] = [each["text"] for each in said if "receiver was away" in each["text"]]
    assert "1 could not be read and follow as soon as they can" in text


async def test_the_table_shows_an_outage_and_text_from_outside_as_text(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    await away(rt.store, 3)
    await note_outages(rt.store, now=utcnow())
    async with rt.store.write() as session:
        row = await session.get_one(Connection, one.id)
        row.provider = "<b>|[x](http://evil.example)"
        session.add(row)
        await session.flush()
    report = await trust_report(rt.store, now=utcnow())
    table = trust_markdown(report, Links(FROM_A_PAGE, {"deletions": "an-id"}))
    assert "## Our own outages" in table
    assert "<b>" not in table
    assert "](http://evil" not in table
    assert trust_headline(report).startswith("No change was counted")


async def test_two_runs_that_end_at_once_say_once_that_webhooks_turned_bad(
    rt: Runtime, one: Connection
) -> None:
    now = utcnow()
    async with rt.store.write() as session:
        await session.execute(update(Connection).values(last_webhook_at=now))
        counted = {"run_at": now, "missed": 30, "webhooks_seen": 70}
        session.add(Drift(connection_id=one.id, entity="eam/assets", **counted))
    async with rt.store.write() as session:  # all have read before one writes
        await session.scalars(select(Connection).with_for_update())
        runs = [
            asyncio.create_task(measure(rt, now=now + timedelta(milliseconds=number)))
            for number in range(3)
        ]
        await asyncio.wait(runs, timeout=0.5)
    verdicts = await asyncio.gather(*runs)
    assert sum(verdict.turned_bad for each in verdicts for verdict in each) == 1
    async with rt.store.read() as session:
        said = await session.scalars(select(Outbox.payload).where(col(Outbox.kind) == "say"))
        [trust] = await session.scalars(select(WebhookTrust.state))
    assert [each["text"][:25] for each in said] == ["Webhooks can't be trusted"]
    assert trust == "bad"
