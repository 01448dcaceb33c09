import asyncio
from datetime import timedelta

import pytest

from linekeeper.clock import utcnow
from linekeeper.store import Store
from linekeeper.store.leases import LeaseLost, acquire, holder, holding, release, renew


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


async def test_losing_the_lease_ends_the_block(store: Store) -> None:
    async def work() -> None:
        async with holding(store, "sweep", "a", seconds=0.3) as held:
            assert held is not None
            await release(store, held, now=utcnow() - timedelta(hours=1))
            assert await acquire(store, "sweep", "b", seconds=30, now=utcnow()) is not None
            await asyncio.sleep(10)

    with pytest.raises(LeaseLost):
        await work()


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
