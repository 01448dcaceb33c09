"""After a run the index is what the source holds, and the feed says how it got there."""

from collections import Counter

from sqlmodel import select

from linekeeper.runtime import Runtime
from linekeeper.store.tables import Drift, Outbox, Watermark
from tests.reconcile.conftest import Check, Peer, feed, run


async def test_the_first_run_is_a_baseline_and_says_nothing_in_the_feed(
    rt: Runtime, agree: Check
) -> None:
    done = await run(rt)
    await agree()
    assert not done.failures
    assert await feed(rt) == []


async def test_what_changed_without_a_webhook_is_recovered_in_the_next_run(
    rt: Runtime, peer: Peer, agree: Check
) -> None:
    """W8: periodic polling is the fallback."""
    await run(rt)
    await peer.set("records", make=7, change=11, announce=False)
    done = await run(rt)
    await agree()
    changes = await feed(rt)
    assert Counter(change.op for change in changes) == {"inserted": 7, "updated": 11}
    assert all(change.recovered for change in changes)
    assert done.counts.missed == 18
    async with rt.store.read() as session:
        drift = list(await session.scalars(select(Drift)))
    assert sum(row.missed for row in drift) == 18


async def test_where_nothing_changed_it_asks_once_and_writes_only_the_watermark(
    rt: Runtime, peer: Peer
) -> None:
    await run(rt)
    await run(rt)
    async with rt.store.read() as session:
        marks = len(list(await session.scalars(select(Watermark).where(Watermark.offered))))
    await peer.calls()
    done = await run(rt)
    calls = await peer.calls()
    assert all(call.startswith("GET /api/") for call in calls), calls
    assert sum(calls.values()) == marks
    assert (done.written, await feed(rt)) == (0, [])


async def test_a_source_that_refuses_the_time_filter_is_listed_whole(
    rt: Runtime, peer: Peer, agree: Check
) -> None:
    await run(rt)
    await peer.set("settings", since="none")
    await peer.set("records", change=5, announce=False)
    done = await run(rt)
    await agree()
    assert not done.failures
    assert done.counts.missed == 5


async def test_both_styles_of_paging_give_the_same_index(
    rt: Runtime, peer: Peer, agree: Check
) -> None:
    await peer.set("settings", paging="cursor")
    await run(rt)
    await agree()


async def test_the_outbox_gets_nothing_without_a_product_to_forward_to(
    rt: Runtime, peer: Peer
) -> None:
    await run(rt)
    await peer.set("records", change=3, announce=False)
    await run(rt)
    async with rt.store.read() as session:
        assert not [
            row for row in await session.scalars(select(Outbox)) if row.channel == "forward"
        ]
