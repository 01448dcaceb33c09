"""The loop itself: time jumps, order is seeded, a power cut leaves everything as it is."""

import asyncio
from typing import Any

import pytest

from tests.simulation.loop import HOST, Deadlock, Host, VirtualLoop
from tests.simulation.net import PEERS


@pytest.fixture
def loop() -> Any:
    made = VirtualLoop(7)
    yield made
    made.close()


def test_a_year_of_sleep_takes_no_time(loop: VirtualLoop) -> None:
    loop.run_until_complete(asyncio.sleep(365 * 86_400))
    assert loop.time() == 365 * 86_400


async def _order(count: int) -> list[int]:
    order: list[int] = []

    async def step(number: int) -> None:
        await asyncio.sleep(0)
        order.append(number)

    await asyncio.gather(*(step(number) for number in range(count)))
    return order


def test_the_order_of_what_is_ready_follows_the_seed() -> None:
    orders = []
    for seed in (1, 1, 2):
        loop = VirtualLoop(seed)
        orders.append(loop.run_until_complete(_order(12)))
        loop.close()
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(12))


def test_waiting_for_nobody_is_found(loop: VirtualLoop) -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        loop.run_until_complete(wait())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))


def test_work_in_which_no_time_passes_is_found(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.simulation.loop.MOST_STEPS", 1000)

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Deadlock, match="no time passes"):
        loop.run_until_complete(spin())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))


def test_a_power_cut_runs_no_finally(loop: VirtualLoop) -> None:
    ran: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ran.append("finally")

    async def world() -> None:
        host = Host("doomed")
        context = PEERS.copy()
        context.run(HOST.set, host)
        loop.create_task(work(), context=context)
        await asyncio.sleep(5)
        host.cut()
        await asyncio.sleep(20)

    loop.run_until_complete(world())
    assert ran == []
