"""What the webhooks missed is counted once, in the run that found it; what came late afterwards."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, update
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.inbox.unrouted import route_again
from linekeeper.reconcile.backfill import reconcile_window
from linekeeper.reconcile.measure import measure
from linekeeper.reconcile.purge import purge_disconnected
from linekeeper.runtime import Runtime
from linekeeper.store.tables import (
    Connection,
    Customer,
    Incident,
    Outbox,
    Record,
    Transition,
    Watermark,
    WebhookTrust,
)
from tests.reconcile.conftest import Peer, deliver, drift, feed, index, process, run


async def changed(peer: Peer, connection: Connection, number: int) -> list[str]:
    """Change so many assets; no webhook is sent."""
    done = await peer.set(
        "records",
        connection=connection.makini_key,
        entity="eam/assets",
        change=number,
        announce=False,
    )
    keys: list[str] = done["records"][connection.makini_key]["eam/assets"]["changed"]
    return keys


async def held_for(rt: Runtime, connection: Connection, health: str) -> None:
    async with rt.store.write() as session:
        await session.execute(
            update(Connection).where(col(Connection.id) == connection.id).values(health=health)
        )


async def handed_on(rt: Runtime) -> list[dict[str, Any]]:
    """The recovered changes on their way to the product."""
    async with rt.store.read() as session:
        rows = await session.scalars(
            select(Outbox).where(col(Outbox.channel) == "forward").order_by(col(Outbox.seq))
        )
        return [row.payload for row in rows if "change" in row.payload]


async def test_a_change_whose_delivery_comes_after_the_run_is_missed_then_late_and_trusted_again(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    keys = await changed(peer, one, 4)
    first = await run(rt)
    assert (first.counts.missed, first.counts.webhooks_seen, first.counts.late) == (4, 0, 0)
    await deliver(rt, one.makini_key, keys[:3])
    await process(rt)
    second = await run(rt)
    assert (second.counts.missed, second.counts.webhooks_seen, second.counts.late) == (0, 0, 3)
    assert second.counts.late_seconds > 0
    third = await run(rt)
    assert third.counts.late == 0
    [verdict] = [v for v in await measure(rt, now=utcnow()) if v.connection_id == one.id]
    assert (verdict.measured.lost, verdict.measured.announced) == (1, 3)
    assert verdict.measured.miss_rate == 0.25


async def test_a_delivery_that_was_deferred_announced_what_the_backfill_finds_unchanged(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    """Who could not be read when it came knows only then what it was about."""
    await run(rt)
    keys = await changed(peer, one, 2)
    assert (await run(rt)).counts.missed == 2
    await held_for(rt, one, "reauthorization_required")
    lost_at = utcnow()
    again = {"key": keys[1], "name": "again"}
    put = {"connection": one.makini_key, "entity": "eam/assets", "record": again}
    await peer.set("records", announce=False, put=[put])
    await deliver(rt, one.makini_key, keys)
    await process(rt)
    await held_for(rt, one, "healthy")
    await reconcile_window(rt, one.id, lost_at)
    announced = [(each.key, each.announced_at is not None) for each in await feed(rt)]
    assert sorted(announced) == sorted([(keys[0], True), (keys[1], False), (keys[1], True)])
    assert sum(row.late for row in await drift(rt)) == 1


async def test_one_that_had_come_and_waited_was_no_miss_and_is_not_handed_on_twice(
    forwarding: Runtime, peer: Peer, one: Connection
) -> None:
    await run(forwarding)
    keys = await changed(peer, one, 5)
    await deliver(forwarding, one.makini_key, keys[:3])
    done = await run(forwarding)
    assert (done.counts.missed, done.counts.webhooks_seen) == (2, 3)
    forwarded = await handed_on(forwarding)
    assert {row["data"]["keys"][0] for row in forwarded} == set(keys[3:])
    assert all(row["data"]["recovered"] for row in forwarded)
    assert forwarded[0]["data"]["makini_key"] == one.makini_key
    await process(forwarding)
    again = await run(forwarding)
    assert (again.counts.missed, again.counts.webhooks_seen, again.counts.late) == (0, 0, 0)
    assert len(await feed(forwarding)) == 5


async def test_what_webhooks_brought_in_time_is_seen(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    keys = await changed(peer, one, 6)
    await deliver(rt, one.makini_key, keys)
    await process(rt)
    assert [change.source for change in await feed(rt)] == ["webhook"] * 6
    done = await run(rt)
    assert (done.counts.missed, done.counts.webhooks_seen) == (0, 6)
    assert sum(row.webhooks_seen for row in await drift(rt)) == 6


async def test_a_delivery_does_not_announce_what_changed_after_it(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    keys = await changed(peer, one, 1)
    await deliver(rt, one.makini_key, keys)
    await peer.set(
        "records",
        announce=False,
        put=[
            {
                "connection": one.makini_key,
                "entity": "eam/assets",
                "record": {"key": keys[0], "name": "later"},
            }
        ],
    )
    done = await run(rt)
    assert (done.counts.missed, done.counts.webhooks_seen) == (1, 0)


async def test_other_contents_at_the_same_time_are_mismatched(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    [key] = await changed(peer, one, 1)
    await run(rt)
    time = (await peer.truth())[one.makini_key]["eam/assets"][key]
    record = {"key": key, "updatedAt": time, "name": "edited in place"}
    await peer.set(
        "records",
        announce=False,
        put=[{"connection": one.makini_key, "entity": "eam/assets", "record": record}],
    )
    done = await run(rt)
    assert (done.counts.missed, done.counts.mismatched) == (0, 1)
    assert [change.recovered for change in await feed(rt)] == [True, True]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True, scope="session")
async def test_a_source_behind_a_critical_customer_or_bad_webhooks_is_read_every_time(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    """B3: polled tighter or looser by what was measured."""
    await run(rt)
    early = await run(rt, everything=False)
    assert early.readings == 0
    async with rt.store.write() as session:
        ids = list(await session.scalars(select(Connection.id)))
        states = dict(zip(sorted(ids), ("good", "bad", "none", "unknown"), strict=True))
        for identifier, state in states.items():
            await session.merge(
                WebhookTrust(
                    connection_id=identifier, state=state, since=utcnow(), measured_at=utcnow()
                )
            )
    assert one.id == sorted(ids)[0]
    assert (await _read_after(rt, 14)) == {name for name, s in states.items() if s != "good"}
    async with rt.store.write() as session:
        await session.execute(
            update(Customer).where(col(Customer.id) == one.customer_id).values(critical=True)
        )
    assert one.id in await _read_after(rt, 14)


async def _read_after(rt: Runtime, minutes: int) -> set[str]:
    """What a scheduled run reads so many minutes after the last one."""
    async with rt.store.write() as session:
        for mark in await session.scalars(select(Watermark)):
            if mark.polled_at is not None:
                mark.polled_at -= timedelta(minutes=minutes)
            session.add(mark)
        await session.flush()
    return (await run(rt, everything=False)).connections


async def test_what_a_disconnected_system_held_is_forgotten_and_what_was_counted_stays(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    await changed(peer, one, 6)
    await run(rt)
    async with rt.store.write() as session:
        assert list(await session.scalars(select(Incident.status))) == ["open"]
        await session.execute(
            update(Connection).where(col(Connection.id) == one.id).values(setup="disconnected")
        )
    await run(rt)
    async with rt.store.read() as session:
        left = await session.scalar(
            select(func.count()).select_from(Record).where(col(Record.connection_id) == one.id)
        )
        assert list(await session.scalars(select(Incident.status))) == ["resolved"]
    assert left == 0
    assert await feed(rt) == []
    assert sum(row.missed for row in await drift(rt)) == 6


async def test_one_that_is_only_missing_in_makinis_list_is_kept_for_thirty_days(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    held = await index(rt)
    async with rt.store.write() as session:
        await session.execute(
            update(Connection).where(col(Connection.id) == one.id).values(setup="disconnected")
        )
        session.add(
            Transition(
                connection_id=one.id, at=utcnow(), axis="setup", before="live",
                after="disconnected", source="list",
            )
        )  # fmt: skip
    await run(rt)
    assert await index(rt) == held
    assert await purge_disconnected(rt.store, now=utcnow() + timedelta(hours=25)) == 0
    assert await purge_disconnected(rt.store, now=utcnow() + timedelta(days=31)) == 1
    assert one.makini_key not in await index(rt)


async def test_a_webhook_for_a_record_the_source_no_longer_has_changes_nothing(
    rt: Runtime, peer: Peer, one: Connection
) -> None:
    await run(rt)
    await deliver(rt, one.makini_key, ["no-such-key"])
    await process(rt)
    done = await run(rt)
    assert (done.counts.missed, done.counts.webhooks_seen, await feed(rt)) == (0, 0, [])


async def test_a_new_record_announced_without_its_connection_is_neither_missed_nor_late(
    forwarding: Runtime, peer: Peer, one: Connection
) -> None:
    """Makini's one documented payload names none: whose the record is, a poll finds out."""
    rt = forwarding
    await run(rt)
    done = await peer.set(
        "records",
        connection=one.makini_key,
        entity="eam/assets",
        make=2,
        announce=False,
    )
    keys = done["records"][one.makini_key]["eam/assets"]["made"]
    await deliver(rt, None, keys[:1])
    await process(rt)
    for _ in range(2):
        await run(rt)
        await route_again(rt.store, now=utcnow())
        await process(rt)
    await run(rt)
    counts = [
        (row.missed, row.late, row.came_late, row.webhooks_seen)
        for row in await drift(rt)
        if row.missed or row.late or row.webhooks_seen
    ]
    assert counts == [(1, 0, 0, 1)], "one was announced, one was missed"
    assert len(await handed_on(rt)) == 2


async def test_what_a_delivery_without_its_connection_named_beside_known_records_is_handed_on(
    forwarding: Runtime, peer: Peer, one: Connection
) -> None:
    """It is forwarded with the keys that are known here: the new record's is not among them."""
    rt = forwarding
    await run(rt)
    known = await changed(peer, one, 1)
    done = await peer.set(
        "records", connection=one.makini_key, entity="eam/assets", make=1, announce=False
    )
    made = done["records"][one.makini_key]["eam/assets"]["made"]
    await deliver(rt, None, known + made)
    await process(rt)
    await run(rt)
    assert [message["data"]["keys"] for message in await handed_on(rt)] == [made]
    assert [row.missed for row in await drift(rt) if row.missed] == [], "it was announced"
