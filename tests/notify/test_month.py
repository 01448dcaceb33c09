"""What operators would have heard in a seeded month: a few days here, all of it in `make soak`."""

import pytest

from benchmarks.month import GOALS, RED_FOR_FINDINGS, Replay, replay


def check(seen: Replay) -> None:
    assert seen.unheard == []
    assert seen.figures["loud_in_quiet_hours"] == 0
    assert seen.figures["untraced"] == 0
    assert seen.figures["left_unsaid"] == 0


async def test_in_a_few_days_everything_is_heard_once_and_nights_are_quiet() -> None:
    seen = await replay(days=3, connections=120)
    check(seen)
    assert seen.figures["first_messages"] > 0


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("seed", [7, 8, 9])
async def test_a_month_of_a_thousand_connections_is_calm_and_complete(seed: int) -> None:
    seen = await replay(seed=seed)
    check(seen)
    figure = "first_message_headroom"
    assert seen.figures[figure] >= GOALS[figure], seen.figures
    assert seen.figures["red_for_findings_per_100_a_week"] <= RED_FOR_FINDINGS, seen.figures
