"""A clock that was ahead and is set right: nothing that it has written is held back."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from linekeeper import clock
from linekeeper.clock import utcnow
from linekeeper.consumer.alive import DEAD_AFTER, beat, retire
from linekeeper.consumer.clock_ahead import put_right
from linekeeper.consumer.events import LONGEST_WAIT
from linekeeper.inbox.claim import claim_events
from linekeeper.makini.failures import MAX_RETRY_AFTER
from linekeeper.outbox.queue import Message, claim, enqueue, outbox_of, release_claim
from linekeeper.outbox.senders.forward import forwarding
from linekeeper.receiver.beat import Heartbeat
from linekeeper.store.leases import acquire
from linekeeper.store.tables import (
    Connection,
    Incident,
    IncidentConnection,
    Lease,
    Outbox,
    ReceiverHeartbeat,
    WebhookEvent,
)
from tests.inbox.process.stage import Stage, about
from tests.inbox.process.test_process_records import changed, event_of

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
"""PostgreSQL's own clock counts for all machines."""
AHEAD = timedelta(hours=2)


class Ahead(clock.Clock):
    """A machine's clock that is two hours fast."""

    def utcnow(self) -> datetime:
        return super().utcnow() + AHEAD


@contextmanager
def ahead() -> Iterator[None]:
    before = clock.use(Ahead())
    try:
        yield
    finally:
        clock.use(before)


async def test_what_came_while_the_clock_was_ahead_is_applied_and_handed_on_at_once(
    stage: Stage,
) -> None:
    [connection, *_] = stage.connections
    with ahead():
        receipt = await stage.deliver(
            about(connection, "connection.auth_required", utcnow()), to=connection
        )
    await stage.process()
    assert (await stage.event(receipt.id)).status == "pending"
    found = await put_right(stage.rt.store, beat=DEAD_AFTER)
    assert found is not None
    assert abs(found - AHEAD) < timedelta(minutes=1)
    await stage.process()
    event = await stage.event(receipt.id)
    assert event.status == "processed"
    assert event.received_at <= utcnow()
    assert (await stage.connection(connection)).health == "reauthorization_required"
    await stage.forward()
    assert [identity for identity, _ in stage.product.taken] == [receipt.id]
    assert await put_right(stage.rt.store, beat=DEAD_AFTER) is None


async def test_claims_and_leases_of_who_died_with_the_wrong_clock_run_out(stage: Stage) -> None:
    """All was there before the clock went wrong; only the beat tells that it did."""
    store = stage.rt.store
    receipt = await stage.deliver({"event": "assets.updated", "body": ["a"]})
    tomorrow = utcnow() + timedelta(days=1)
    async with store.write() as session:
        messages = [
            Message("slack", "now"),
            Message("slack", "planned", not_before=tomorrow),
        ]
        await enqueue(store, session, messages, now=utcnow())
    with ahead():
        now = utcnow()
        await beat(store, "dead")
        assert (await claim_events(store, "dead", rank=1, limit=9, now=now)).events
        assert (await claim(store, outbox_of("slack"), "dead", limit=9, now=now)).rows
        assert await acquire(store, "health-sweep", "dead", seconds=30, now=now)
    assert await acquire(store, "health-sweep", "b", seconds=30, now=utcnow()) is None
    await put_right(store, beat=DEAD_AFTER)
    later = utcnow() + timedelta(seconds=125)
    assert await acquire(store, "health-sweep", "b", seconds=30, now=later)
    [event] = (await claim_events(store, "b", rank=1, limit=9, now=later)).events
    assert event.id == receipt.id
    [row] = (await claim(store, outbox_of("slack"), "b", limit=9, now=later)).rows
    assert row["dedupe_key"] == "now"
    async with store.read() as session:
        planned = await session.scalar(select(Outbox).where(col(Outbox.dedupe_key) == "planned"))
        leases = set(await session.scalars(select(Lease.until)))
    assert planned is not None
    assert planned.next_attempt_at == tomorrow
    assert max(leases) <= later + timedelta(seconds=31)


async def test_what_was_put_off_by_the_wrong_clock_is_decided_about_anew(stage: Stage) -> None:
    """Universe 30108: a mail that was due tonight was put off to the working hours of the day after
    tomorrow, and waited for them."""
    store, mails = stage.rt.store, outbox_of("email")
    async with store.write() as session:
        due = utcnow() + timedelta(minutes=9)
        messages = [
            Message("email", "first", ordering_key="acme", not_before=due),
            Message("email", "second", ordering_key="acme", not_before=due),
        ]
        await enqueue(store, session, messages, now=utcnow())
    with ahead():
        await beat(store, "one")
        taken = await claim(store, mails, "one", limit=9, now=utcnow())
        until = dict.fromkeys([row["id"] for row in taken.rows], utcnow() + timedelta(days=1))
        async with store.write() as session:
            await release_claim(session, mails, taken.token, until, planned=list(until))
    assert len(until) == 1
    await put_right(store, beat=DEAD_AFTER)
    [row] = (await claim(store, mails, "b", limit=9, now=utcnow())).rows
    assert row["dedupe_key"] == "first"
    assert row["due_at"] <= utcnow()


async def test_connections_that_were_probed_in_the_future_are_probed_again(stage: Stage) -> None:
    [connection, *_] = stage.connections
    async with stage.rt.store.write() as session:
        await session.execute(
            update(Connection)
            .where(col(Connection.id) == connection.id)
            .values(last_checked_at=utcnow() + AHEAD, next_probe_at=utcnow() + AHEAD)
        )
    with ahead():
        await beat(stage.rt.store, "one")
    await put_right(stage.rt.store, beat=DEAD_AFTER)
    due = (await stage.connection(connection)).next_probe_at
    assert due is not None
    assert due <= utcnow()


async def test_an_incident_that_was_opened_in_the_future_is_as_old_as_it_is(stage: Stage) -> None:
    """Or it would be notified only once it has lasted by the wrong clock."""
    [connection, *_] = stage.connections
    with ahead():
        await stage.deliver(about(connection, "connection.auth_required", utcnow()), to=connection)
        await stage.process()
        await beat(stage.rt.store, "one")
    await put_right(stage.rt.store, beat=DEAD_AFTER)
    async with stage.rt.store.read() as session:
        [incident] = await session.scalars(select(Incident))
        [member] = await session.scalars(select(IncidentConnection))
    moment = utcnow()
    assert moment - timedelta(minutes=5) < incident.opened_at <= moment
    assert member.joined_at <= moment


async def test_waits_that_a_right_clock_has_set_stay(stage: Stage) -> None:
    await stage.deliver({"event": "assets.updated", "body": ["a"]})
    store, due = stage.rt.store, utcnow() + timedelta(minutes=9)
    async with store.write() as session:
        await session.execute(update(WebhookEvent).values(next_attempt_at=due, attempts=8))
    await beat(store, "one")
    assert await put_right(store, beat=DEAD_AFTER) is None
    [event] = await stage.events()
    assert event.next_attempt_at == due


async def test_a_pause_of_a_product_ends_although_the_clock_was_ahead(stage: Stage) -> None:
    [connection, *_] = stage.connections
    async with forwarding(stage.rt) as forwarder:
        with ahead():
            stage.product.answers = [503]
            await stage.deliver(
                about(connection, "connection.status_changed", utcnow(), to="online")
            )
            await stage.process()
            await forwarder.deliver()
        await put_right(stage.rt.store, beat=DEAD_AFTER)
        async with stage.rt.store.write() as session:
            await session.execute(update(Outbox).values(next_attempt_at=utcnow()))
        await forwarder.deliver()
    assert len(stage.product.taken) == 1


async def test_an_event_that_failed_by_the_wrong_clock_is_tried_again_in_minutes(
    stage: Stage,
) -> None:
    """All was there before, and nobody lived by the wrong clock who left a trace of it."""
    [connection, *_] = stage.connections
    assets = await changed(stage, connection, "eam/assets")
    await stage.control(f"connections/{connection.makini_key}/go-offline")
    head = await stage.deliver(event_of("eam/assets", assets), to=connection)
    blocked = await stage.deliver(event_of("eam/work-orders", ["x"]), to=connection)
    with ahead():
        await stage.process()
    assert (await stage.event(head.id)).attempts == 1
    await put_right(stage.rt.store, beat=DEAD_AFTER)
    for receipt in (head, blocked):
        event = await stage.event(receipt.id)
        assert event.status == "pending"
        assert event.next_attempt_at <= utcnow() + timedelta(seconds=LONGEST_WAIT)
    assert await put_right(stage.rt.store, beat=DEAD_AFTER) is None


async def test_a_wait_that_makini_asked_for_stays(stage: Stage) -> None:
    await stage.deliver({"event": "assets.updated", "body": ["a"]})
    store, due = stage.rt.store, utcnow() + timedelta(seconds=MAX_RETRY_AFTER)
    async with store.write() as session:
        await session.execute(update(WebhookEvent).values(next_attempt_at=due, attempts=1))
    assert await put_right(store, beat=DEAD_AFTER) is None
    [event] = await stage.events()
    assert event.next_attempt_at == due


async def test_all_is_stopped_before_the_clock_is_set_right(stage: Stage) -> None:
    """A consumer that ends takes its beat along; what the receiver lived through stays."""
    [connection, *_] = stage.connections
    store = stage.rt.store
    await stage.deliver(about(connection, "connection.status_changed", utcnow(), to="online"))
    await stage.process()
    with ahead():
        await beat(store, "one")
        await Heartbeat("receiver").beat(store, now=utcnow())
        stage.product.answers = [503]
        await stage.forward()
        await retire(store, "one")
    [forward] = await stage.forwards()
    assert forward.next_attempt_at > utcnow() + timedelta(hours=1)
    await put_right(store, beat=DEAD_AFTER)
    [forward] = await stage.forwards()
    assert forward.next_attempt_at < utcnow() + timedelta(minutes=15)
    async with store.read() as session:
        [span] = await session.scalars(select(ReceiverHeartbeat))
    assert span.since <= span.at < utcnow() + timedelta(minutes=15)
    assert await put_right(store, beat=DEAD_AFTER) is None
