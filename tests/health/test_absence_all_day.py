"""What no list had all day long, and nobody could read meanwhile, is gone; a pause is no day."""

from datetime import timedelta

import pytest

import sandbox
from linekeeper.runtime import Runtime
from tests.health.test_absence import unlist
from tests.health.test_sweep import adopt, connections, control, sweep
from tests.reconcile.test_clock_ahead import DAY, off


async def unlisted_and_off_line(rt: Runtime, fleet: sandbox.Served) -> None:
    """Makini's list lacks the first connection, which lives; its system answers nothing."""
    await control(fleet, "settings", mint_shape="pair")  # a token lasts for weeks
    await adopt(rt, fleet)
    [hidden, *_] = await connections(rt)
    fleet.world.go_offline(unlist(fleet, hidden)[hidden.makini_key])


async def swept_after(rt: Runtime, *hours: float) -> str:
    """What the connection is after sweeps so many hours from now."""
    for each in hours:
        with off(timedelta(hours=each)):
            await sweep(rt)
    return (await connections(rt))[0].setup


async def test_what_no_list_had_and_nobody_could_read_all_day_is_gone(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    await unlisted_and_off_line(rt, fleet)
    assert await swept_after(rt, 0, 5, 10, 15, 20) == "live"
    assert await swept_after(rt, 24.5) == "disconnected"


async def test_what_the_lists_before_and_after_a_day_without_lists_lacked_is_not_gone(
    rt: Runtime, fleet: sandbox.Served
) -> None:
    """Linekeeper stood still for a day, and the list was cut short before and after that."""
    await unlisted_and_off_line(rt, fleet)
    assert await swept_after(rt, 0, 25, 25.1, 25.2, 30, 35, 40, 45) == "live"
    assert await swept_after(rt, 49.5) == "disconnected"


@pytest.mark.parametrize("leap", [DAY, -DAY], ids=["ahead", "back"])
async def test_a_clock_that_leaps_by_a_day_is_no_day_without_it(
    rt: Runtime, fleet: sandbox.Served, leap: timedelta
) -> None:
    """Universe 32542: two lists of ten minutes were cut short, and the clock was set between."""
    await unlisted_and_off_line(rt, fleet)
    for skew in (timedelta(), leap, leap, timedelta(), timedelta()):
        with off(skew):
            await sweep(rt)
        assert (await connections(rt))[0].setup == "live"
