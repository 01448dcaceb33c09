"""What the graph of a run can show, by the run's age."""

from datetime import UTC, datetime, timedelta

import pytest

from linekeeper.graph import AGES_SHOWN, Node, draw_again_at, span

NOW = datetime(2027, 3, 1, 9, tzinfo=UTC)


def node(gate: str, start: timedelta, end: timedelta | None) -> Node:
    """A node by its distance from now."""
    until = None if end is None else NOW + end
    return Node(gate, gate, (), "SCHEDULED", "Not yet", "", NOW + start, until)


@pytest.mark.parametrize("age", [timedelta(), timedelta(minutes=3), timedelta(days=1)])
def test_a_young_run_draws_what_lies_far_off_closer_and_in_order(age: timedelta) -> None:
    days = timedelta(days=1)
    gates = [
        node("before the run", -30 * days, -20 * days),
        node("open", -age / 2, None),
        node("next", 2 * days, 5 * days),
        node("last", 5 * days, 40 * days),
    ]
    drawn, to_scale = span(gates, began=NOW - age, now=NOW)
    assert not to_scale
    assert drawn[1] == gates[1]
    starts = [one.start for one in drawn]
    assert starts == sorted(starts)
    room = max(age, timedelta(seconds=15)) * (AGES_SHOWN + 1)
    assert max(one.end or one.start for one in drawn) <= NOW + room
    assert min(starts) >= NOW - age - room
    assert drawn[2].end == drawn[3].start


def test_an_old_run_draws_everything_where_it_is() -> None:
    gates = [
        node("done", timedelta(days=-9), timedelta(days=-3)),
        node("next", timedelta(days=2), timedelta(days=20)),
    ]
    assert span(gates, began=NOW - timedelta(days=10), now=NOW) == (gates, True)


def test_a_run_that_a_clock_began_which_was_ahead_is_not_drawn_again_and_again() -> None:
    """Once the clock was right the next look lay in the past: each look woke the run for one."""
    for ahead in (timedelta(seconds=1), timedelta(hours=2), timedelta(days=1)):
        again = draw_again_at(began=NOW + ahead, now=NOW)
        assert timedelta(seconds=15) <= again - NOW <= timedelta(hours=1)
    age = timedelta(minutes=5)
    assert draw_again_at(began=NOW - age, now=NOW) == NOW + 3 * age
