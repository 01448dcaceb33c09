"""The one claim: in order, once, with an end; and how claimed messages are settled."""

import asyncio
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from linekeeper.clock import utcnow
from linekeeper.outbox.queue import CLAIM_SECONDS, Claim, Message, Work, claim, enqueue, outbox_of
from linekeeper.outbox.sender import End, Retry, end, schedule_retry
from linekeeper.store import Store

SLACK = outbox_of("slack")
IN_A_ROW = outbox_of("slack", only_first=False)


async def write(store: Store, *messages: Message) -> None:
    async with store.write() as session:
        await enqueue(store, session, messages, now=utcnow())


async def take(
    store: Store, owner: str, *, limit: int = 10, now: datetime | None = None, work: Work = SLACK
) -> Claim:
    return await claim(store, work, owner, limit=limit, now=now or utcnow())


def keys(claimed: Claim) -> list[str]:
    return [row["dedupe_key"] for row in claimed.rows]


async def finish(store: Store, claimed: Claim, *, dead: bool = False) -> None:
    async with store.write() as session:
        ends = [End(row["id"], "dead" if dead else "sent") for row in claimed.rows]
        await end(session, SLACK, claimed.token, ends, now=utcnow())


async def test_the_same_key_is_written_once(store: Store) -> None:
    await write(store, Message("slack", "a"), Message("slack", "a"))
    await write(store, Message("slack", "a"))
    assert keys(await take(store, "w")) == ["a"]


async def test_an_ordering_key_goes_out_in_order_and_keys_go_side_by_side(store: Store) -> None:
    await write(
        store,
        Message("slack", "a1", ordering_key="a"),
        Message("slack", "a2", ordering_key="a"),
        Message("slack", "b1", ordering_key="b"),
    )
    first = await take(store, "w")
    assert keys(first) == ["a1", "b1"]
    assert keys(await take(store, "v")) == []
    await finish(store, first)
    assert keys(await take(store, "w")) == ["a2"]


async def test_sent_in_a_row_an_ordering_key_is_claimed_as_a_whole(store: Store) -> None:
    await write(store, *(Message("slack", f"a{n}", ordering_key="a") for n in range(3)))
    first = await take(store, "w", limit=2, work=IN_A_ROW)
    assert keys(first) == ["a0", "a1"]
    assert keys(await take(store, "v", work=IN_A_ROW)) == []
    await finish(store, first)
    later = utcnow() + timedelta(seconds=5)
    assert keys(await take(store, "v", work=IN_A_ROW, now=later)) == ["a2"]


async def test_deliverers_side_by_side_never_claim_the_same_row(store: Store) -> None:
    await write(store, *(Message("slack", f"k{n}") for n in range(60)))
    claims = await asyncio.gather(*(take(store, f"w{n}", limit=20) for n in range(6)))
    taken = [key for claimed in claims for key in keys(claimed)]
    assert len(taken) == len(set(taken))


async def test_a_dead_deliverers_claim_runs_out_and_the_repeat_is_visible(store: Store) -> None:
    now = utcnow()
    await write(store, Message("slack", "a"))
    gone = await take(store, "dead", limit=1)
    later = now + timedelta(seconds=CLAIM_SECONDS + 5)
    again = await take(store, "alive", limit=1, now=later)
    assert again.rows[0]["attempts"] == 2
    await finish(store, gone)  # too late: not its claim any more
    async with store.write() as session:
        retry = Retry(again.rows[0]["id"], later + timedelta(seconds=5), "busy")
        await schedule_retry(session, SLACK, again.token, [retry])
    assert keys(await take(store, "alive", now=later)) == []
    third = await take(store, "alive", now=later + timedelta(seconds=6))
    assert keys(third) == ["a"]
    await finish(store, third, dead=True)
    assert keys(await take(store, "alive", now=later + timedelta(days=1))) == []


async def test_a_dead_letter_does_not_hold_up_what_is_behind_it(store: Store) -> None:
    await write(
        store, Message("slack", "a1", ordering_key="a"), Message("slack", "a2", ordering_key="a")
    )
    await finish(store, await take(store, "w"), dead=True)
    assert keys(await take(store, "w")) == ["a2"]


@pytest.mark.parametrize("work", [SLACK, IN_A_ROW], ids=["first of each", "in a row"])
async def test_no_more_are_claimed_than_asked_for_whatever_the_plan(
    store: Store, work: Work
) -> None:
    """PostgreSQL may join by reading what is due again for each row, and locks others each time."""
    await write(store, *(Message("slack", f"a{n}") for n in range(6)))
    now = utcnow()
    until = now + timedelta(seconds=CLAIM_SECONDS)
    given = {"now": now, "most": 1, "token": "w/1", "owner": "w", "until": until}
    async with store.write() as session:
        if not store.is_sqlite:
            for way in ("hashjoin", "mergejoin", "hashagg", "sort", "material", "indexscan",
                        "bitmapscan"):  # fmt: skip
                await session.execute(text(f"SET LOCAL enable_{way} = off"))
        taken = (await session.execute(work.taking(store.is_sqlite), given)).all()
    assert len(taken) == 1
