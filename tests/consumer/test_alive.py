"""A consumer that dies is replaced within seconds; one that only seemed dead does no harm."""

import asyncio
from datetime import timedelta

from sqlalchemy import update
from sqlmodel import col, select

from linekeeper.clock import utcnow
from linekeeper.consumer.alive import beat, retire
from linekeeper.inbox.claim import Settled, claim_events, settle, still_ours
from linekeeper.outbox.queue import CLAIM_SECONDS, Message, claim, enqueue, outbox_of
from linekeeper.outbox.sender import End, end
from linekeeper.store import Store
from linekeeper.store.tables import Lease, Outbox, WebhookEvent

NOW = utcnow() - timedelta(seconds=1)


async def work(store: Store) -> None:
    """One webhook and one message that wait."""
    async with store.write() as session:
        session.add(
            WebhookEvent(
                app="default",
                delivery_key="d",
                kind="x",
                ordering_key="l",
                received_at=NOW,
                next_attempt_at=NOW,
            )
        )
        await enqueue(store, session, [Message("slack", "one")], now=NOW)


async def add_backlog(store: Store) -> None:
    """Another webhook of the same ordering key."""
    async with store.write() as session:
        session.add(
            WebhookEvent(
                app="default",
                delivery_key="e",
                kind="x",
                ordering_key="l",
                received_at=NOW,
                next_attempt_at=NOW,
            )
        )


async def dies(store: Store, owner: str) -> None:
    """Nothing is heard of `owner` any more."""
    async with store.write() as session:
        await session.execute(
            update(Lease)
            .where(col(Lease.owner) == owner)
            .values(until=utcnow() - timedelta(seconds=1))
        )


async def test_after_a_pause_of_the_database_consumers_do_not_take_each_other_for_dead(
    store: Store,
) -> None:
    """None could say that it lives; each does so as soon as it can, all at the same moment."""
    for _ in range(5):
        await asyncio.gather(*(beat(store, owner) for owner in ("a:1", "b:2")))
        await dies(store, "a:1")
        await dies(store, "b:2")
        taken_over = await asyncio.gather(*(beat(store, owner) for owner in ("a:1", "b:2")))
        assert sum(map(len, taken_over)) <= 1


async def test_what_a_dead_consumer_had_claimed_is_free_once_another_notices(store: Store) -> None:
    await work(store)
    assert await beat(store, "a:1") == []
    held = await claim_events(store, "a:1", rank=1, limit=9, now=utcnow())
    slack = outbox_of("slack")
    messages = await claim(store, slack, "a:1", limit=9, now=utcnow())
    assert len(held.events) == len(messages.rows) == 1
    assert await beat(store, "b:2") == []
    assert (await claim_events(store, "b:2", rank=1, limit=9, now=utcnow())).events == ()

    await dies(store, "a:1")
    assert await beat(store, "b:2") == ["a:1"]
    assert await beat(store, "b:2") == []
    taken = await claim_events(store, "b:2", rank=1, limit=9, now=utcnow())
    assert [one.id for one in taken.events] == [one.id for one in held.events]
    assert len((await claim(store, outbox_of("slack"), "b:2", limit=9, now=utcnow())).rows) == 1

    # It was not dead after all: what it settles now is refused.
    async with store.write() as session:
        assert await still_ours(session, held, held.events) == []
        [event] = await still_ours(session, taken, taken.events)
        await settle(session, {event.id: Settled("processed")}, now=utcnow())
    async with store.write() as session:
        gone = [End(messages.rows[0]["id"], "sent")]
        await end(session, slack, messages.token, gone, now=utcnow())
    async with store.read() as session:
        assert await session.scalar(select(Outbox.status)) == "pending"


async def test_one_that_ends_by_itself_leaves_nothing_claimed(store: Store) -> None:
    await work(store)
    await beat(store, "a:1")
    await claim_events(store, "a:1", rank=1, limit=9, now=utcnow())
    await claim(store, outbox_of("slack"), "a:1", limit=9, now=utcnow())
    await retire(store, "a:1")
    assert len((await claim_events(store, "b:2", rank=1, limit=9, now=utcnow())).events) == 1
    assert len((await claim(store, outbox_of("slack"), "b:2", limit=9, now=utcnow())).rows) == 1
    async with store.read() as session:
        assert list(await session.scalars(select(Lease.name))) == []


async def test_an_owner_whose_name_begins_like_anothers_keeps_its_work(store: Store) -> None:
    await work(store)
    await beat(store, "a:1")
    await beat(store, "a:11")
    held = await claim_events(store, "a:11", rank=1, limit=9, now=utcnow())
    await dies(store, "a:1")
    assert await beat(store, "b:2") == ["a:1"]
    async with store.write() as session:
        assert len(await still_ours(session, held, held.events)) == 1


async def test_what_waits_behind_a_claim_is_looked_at_when_that_ends_at_the_latest(
    store: Store,
) -> None:
    await work(store)
    [held] = (await claim_events(store, "a:1", rank=1, limit=9, now=NOW)).events
    await add_backlog(store)
    ends = NOW + timedelta(seconds=CLAIM_SECONDS)
    almost = ends - timedelta(seconds=1)
    assert not (await claim_events(store, "b:2", rank=1, limit=9, now=almost)).events
    later = ends + timedelta(seconds=1)  # the database goes by its own clock
    taken = await claim_events(store, "b:2", rank=1, limit=9, now=later)
    assert [event.id for event in taken.events][:1] == [held.id]
    assert len(taken.events) == 2, "the one behind it is due as well"
