"""What the receiver does beside receiving ends when it is told to, whatever it is doing then."""

import asyncio
from collections.abc import Awaitable

import pytest

from linekeeper.receiver.beat import _try


@pytest.mark.parametrize("turns", range(6))
async def test_a_step_that_is_done_in_the_moment_of_the_end_does_not_hide_it(turns: int) -> None:
    """It had: then the receiver went on beating, and its end waited for that for ever."""
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def step() -> None:
        await answer

    async def beat(work: Awaitable[None]) -> str:
        await _try("heartbeat", work, 60)
        await asyncio.sleep(0)
        return "it went on"

    beating = asyncio.create_task(beat(step()))
    await asyncio.sleep(0.01)
    answer.set_result(None)
    for _ in range(turns):
        await asyncio.sleep(0)
    is_cancelled = beating.cancel()
    [said] = await asyncio.gather(beating, return_exceptions=True)
    assert isinstance(said, asyncio.CancelledError) is is_cancelled
