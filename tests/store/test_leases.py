import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, update
from sqlalchemy.exc import OperationalError
from sqlmodel import col

from linekeeper.clock import utcnow
from linekeeper.store import Store
from linekeeper.store.leases import LeaseLost, acquire, holding, next_holder, release, renew
from linekeeper.store.many_leases import holding_many
from linekeeper.store.processes import registered
from linekeeper.store.tables import Lease
from tests.leases import holder


async def test_only_one_of_many_gets_a_lease(store: Store) -> None:
    now = utcnow()
    got = await asyncio.gather(
        *(acquire(store, "sweep", f"w{n}", seconds=30, now=now) for n in range(8))
    )
    assert sum(held is not None for held in got) == 1


async def test_a_lease_that_ran_out_is_anybodys_and_its_old_owner_notices(store: Store) -> None:
    now = utcnow()
    first = await acquire(store, "sweep", "a", seconds=30, now=now)
    later = now + timedelta(seconds=31)
    second = await acquire(store, "sweep", "b", seconds=30, now=later)
    assert first is not None
    assert second is not None
    assert second.fence > first.fence
    assert not await renew(store, first, seconds=30, now=later)
    await release(store, first, now=later)
    assert await holder(store, "sweep", now=later) == "b"


async def test_fences_grow_across_a_release(store: Store) -> None:
    now = utcnow()
    first = await acquire(store, "sweep", "a", seconds=30, now=now)
    assert first is not None
    await release(store, first, now=now)
    second = await acquire(store, "sweep", "b", seconds=30, now=now)
    assert second is not None
    assert second.fence > first.fence


async def test_what_an_owner_held_before_neither_renews_nor_ends_what_it_holds_now(
    store: Store,
) -> None:
    now = utcnow()
    first = await acquire(store, "sweep", "a", seconds=30, now=now)
    second = await acquire(store, "sweep", "a", seconds=30, now=now)
    assert first is not None
    assert second is not None
    assert not await renew(store, first, seconds=300, now=now)
    await release(store, first, now=now)
    assert await holder(store, "sweep", now=now) == "a"
    assert await holder(store, "sweep", now=now + timedelta(seconds=31)) is None
    assert await renew(store, second, seconds=30, now=now)


async def test_a_block_that_waits_runs_after_the_one_before(store: Store) -> None:
    order: list[str] = []

    async def work(name: str) -> None:
        async with holding(store, "sweep", name, wait=True) as held:
            assert held is not None
            order.append(f"{name} in")
            await asyncio.sleep(0.05)
            order.append(f"{name} out")

    await asyncio.gather(work("a"), work("b"))
    assert [step.split()[1] for step in order] == ["in", "out", "in", "out"]


async def test_who_waits_writes_nothing_until_the_lease_looks_free(store: Store) -> None:
    held = await acquire(store, "sweep", "a", seconds=30, now=utcnow())
    assert held is not None
    written: list[str] = []
    tried = asyncio.Event()

    @event.listens_for(store.engine.sync_engine, "before_cursor_execute")
    def note(_1: Any, _2: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO lease"):
            written.append(statement)
            tried.set()

    async def wait() -> None:
        async with holding(store, "sweep", "b", wait=True) as mine:
            assert mine is not None

    waiting = asyncio.create_task(wait())
    await asyncio.wait_for(tried.wait(), 30)
    await asyncio.sleep(2.5)
    assert not waiting.done()
    assert len(written) == 1
    await release(store, held, now=utcnow())
    await asyncio.wait_for(waiting, 30)
    assert len(written) == 2


BLOCKS: list[Callable[[Store], AbstractAsyncContextManager[Any]]] = [
    lambda store: holding(store, "sweep", "a"),
    lambda store: registered(store, "a", "receiver"),
    lambda store: holding_many(store, "reconcile", "a", purpose="routine"),
]


@pytest.mark.parametrize("block", BLOCKS, ids=["holding", "registered", "holding_many"])
async def test_who_is_told_to_end_while_a_block_is_left_ends(
    store: Store, block: Callable[[Store], AbstractAsyncContextManager[Any]]
) -> None:
    """A loop that left such a block just then had gone on, and the receiver had not ended."""

    async def leave() -> None:
        async with block(store):
            await asyncio.sleep(0.05)  # what runs beside the block has begun
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(leave())
    async with asyncio.timeout(10), holding(store, "sweep", "b") as held:
        assert held is not None  # it was given back all the same


async def test_losing_the_lease_ends_the_block(store: Store) -> None:
    async def work() -> None:
        async with holding(store, "sweep", "a", seconds=0.3) as held:
            assert held is not None
            await release(store, held, now=utcnow() - timedelta(hours=1))
            assert await acquire(store, "sweep", "b", seconds=30, now=utcnow()) is not None
            await asyncio.sleep(10)

    with pytest.raises(LeaseLost):
        await work()


def failing_while(store: Store, trouble: asyncio.Event) -> None:
    """Statements that change a lease fail while `trouble` is set."""

    @event.listens_for(store.engine.sync_engine, "before_cursor_execute")
    def failing(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if trouble.is_set() and statement.startswith("UPDATE lease"):
            raise OperationalError(statement, {}, OSError("the disk is away"))


async def test_a_renewal_that_fails_is_tried_again_before_the_lease_ends(store: Store) -> None:
    trouble = asyncio.Event()
    failing_while(store, trouble)
    async with holding(store, "sweep", "a", seconds=3) as held:
        assert held is not None
        trouble.set()
        await asyncio.sleep(1.5)
        trouble.clear()
        await asyncio.sleep(2.5)  # beyond the first lease's end
        assert await acquire(store, "sweep", "b", seconds=30, now=utcnow()) is None


async def test_a_block_ends_before_another_may_hold_what_could_not_be_renewed(
    store: Store,
) -> None:
    trouble = asyncio.Event()
    failing_while(store, trouble)
    holder_at_the_end: str | None = None

    async def work() -> None:
        nonlocal holder_at_the_end
        async with holding(store, "sweep", "a", seconds=5) as held:
            assert held is not None
            trouble.set()
            try:
                await asyncio.sleep(60)
            finally:
                ended_at = utcnow()  # asking the database takes as long as the machine is busy
                holder_at_the_end = await holder(store, "sweep", now=ended_at)

    with pytest.raises(LeaseLost):
        await work()
    assert holder_at_the_end == "a"  # nobody else could hold it while the block ran
    trouble.clear()
    async with holding(store, "sweep", "b", wait=True) as held:
        assert held is not None


@pytest.mark.parametrize("off", [timedelta(minutes=10), -timedelta(minutes=10)])
async def test_a_machine_whose_clock_is_off_takes_nothing_from_others_and_keeps_its_own(
    store: Store, monkeypatch: pytest.MonkeyPatch, off: timedelta
) -> None:
    if store.is_sqlite:
        pytest.skip("SQLite is one machine's, and that machine's clock counts")
    async with holding(store, "sweep", "right") as held:
        assert held is not None
        with monkeypatch.context() as machine:
            machine.setattr("linekeeper.store.engine.utcnow", lambda: utcnow() + off)
            async with holding(store, "sweep", "off") as taken:
                assert taken is None
    with monkeypatch.context() as machine:
        machine.setattr("linekeeper.store.engine.utcnow", lambda: utcnow() + off)
        async with holding(store, "sweep", "off") as held:
            assert held is not None
            machine.undo()
            async with holding(store, "sweep", "right") as taken:
                assert taken is None


async def test_the_run_that_took_a_lease_is_known_and_none_where_something_else_did(
    store: Store,
) -> None:
    """Also where the version before takes it, which leaves the columns as they are."""
    now = utcnow()
    mine = await acquire(store, "sweep", "a · run x", seconds=1, now=now, run_id="first")
    assert mine is not None
    assert await next_holder(store, mine) is None
    later = now + timedelta(seconds=5)
    theirs = await acquire(store, "sweep", "b", seconds=1, now=later, run_id="second")
    assert theirs is not None
    assert await next_holder(store, mine) == ("b", "second")
    assert await next_holder(store, theirs) is None
    async with store.write() as session:
        took = {"owner": "c · run y", "fence": col(Lease.fence) + 1}
        await session.execute(update(Lease).where(col(Lease.name) == "sweep").values(took))
    assert await next_holder(store, mine) == ("c · run y", None)
    again = later + timedelta(seconds=5)
    assert await acquire(store, "sweep", "d", seconds=1, now=again) is not None
    assert await next_holder(store, mine) == ("d", None)
