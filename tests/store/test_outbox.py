import asyncio
from datetime import timedelta

from linekeeper.clock import utcnow
from linekeeper.outbox.queue import (
    CLAIM_SECONDS,
    Message,
    claim,
    dead_letter,
    enqueue,
    postpone,
    settle,
)
from linekeeper.store import Store


async def write(store: Store, *messages: Message) -> None:
    async with store.write() as session:
        await enqueue(store, session, messages, now=utcnow())


async def test_the_same_key_is_written_once(store: Store) -> None:
    await write(store, Message("slack", "a"), Message("slack", "a"))
    await write(store, Message("slack", "a"))
    assert len(await claim(store, "slack", "w", limit=10, now=utcnow())) == 1


async def test_a_lane_goes_out_in_order_and_lanes_go_side_by_side(store: Store) -> None:
    await write(
        store,
        Message("slack", "a1", lane="a"),
        Message("slack", "a2", lane="a"),
        Message("slack", "b1", lane="b"),
    )
    first = await claim(store, "slack", "w", limit=10, now=utcnow())
    assert [row.dedupe_key for row in first] == ["a1", "b1"]
    assert await claim(store, "slack", "v", limit=10, now=utcnow()) == []
    await settle(store, first, "w", now=utcnow())
    second = await claim(store, "slack", "w", limit=10, now=utcnow())
    assert [row.dedupe_key for row in second] == ["a2"]


async def test_deliverers_side_by_side_never_claim_the_same_row(store: Store) -> None:
    await write(store, *(Message("slack", f"k{n}") for n in range(60)))
    claims = await asyncio.gather(
        *(claim(store, "slack", f"w{n}", limit=20, now=utcnow()) for n in range(6))
    )
    keys = [row.dedupe_key for rows in claims for row in rows]
    assert len(keys) == len(set(keys))


async def test_a_dead_deliverers_claim_runs_out_and_the_repeat_is_visible(store: Store) -> None:
    now = utcnow()
    await write(store, Message("slack", "a"))
    assert await claim(store, "slack", "dead", limit=1, now=utcnow())
    later = now + timedelta(seconds=CLAIM_SECONDS + 5)
    [again] = await claim(store, "slack", "alive", limit=1, now=later)
    assert again.attempts == 2
    await settle(store, [again], "dead", now=later)  # too late: not its claim any more
    await postpone(store, [again], "alive", "busy", until=later + timedelta(seconds=5))
    assert await claim(store, "slack", "alive", limit=1, now=later) == []
    [third] = await claim(store, "slack", "alive", limit=1, now=later + timedelta(seconds=6))
    await dead_letter(store, third, "alive", "refused", now=later)
    assert await claim(store, "slack", "alive", limit=1, now=later + timedelta(days=1)) == []


async def test_a_buried_row_does_not_hold_up_its_lane(store: Store) -> None:
    await write(store, Message("slack", "a1", lane="a"), Message("slack", "a2", lane="a"))
    [first] = await claim(store, "slack", "w", limit=10, now=utcnow())
    await dead_letter(store, first, "w", "refused", now=utcnow())
    [second] = await claim(store, "slack", "w", limit=10, now=utcnow())
    assert second.dedupe_key == "a2"
