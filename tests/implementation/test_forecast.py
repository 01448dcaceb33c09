"""The forecast: seeded, within its bounds, and honest about what has already happened."""

import random
import statistics
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linekeeper.implementation.forecast import GateProgress, forecast
from linekeeper.implementation.plan import DurationEstimate, PlannedGate, make_plan, order
from linekeeper.implementation.scope import PlanError, parse_scope
from linekeeper.implementation.template import load_template


def gate(
    one: str, best: float, likely: float, worst: float, *needs: str, owner="us"
) -> PlannedGate:
    return PlannedGate(one, one, one, owner, DurationEstimate(best, likely, worst), needs, (), None)


CHAIN = (
    gate("a", 1, 2, 6),
    gate("b", 1, 3, 4, "a", owner="customer"),
    gate("c", 2, 2, 2, "b"),
)
FORK = (gate("a", 1, 1, 1), gate("b", 1, 2, 9, "a"), gate("c", 3, 4, 5, "a"),
        gate("d", 1, 1, 1, "b", "c"))  # fmt: skip

points = st.lists(st.integers(0, 40), min_size=3, max_size=3).map(sorted)


@st.composite
def dags(draw: st.DrawFn) -> tuple[PlannedGate, ...]:
    gates = []
    for n in range(draw(st.integers(1, 8))):
        needs = draw(st.sets(st.integers(0, n - 1), max_size=3)) if n else set()
        best, likely, worst = draw(points)
        gates.append(gate(str(n), best / 4, likely / 4, worst / 4, *map(str, sorted(needs))))
    return order(gates)


def bound(gates: tuple[PlannedGate, ...], which: str) -> float:
    finish: dict[str, float] = {}
    for gate in gates:
        start = max((finish[need] for need in gate.needs), default=0.0)
        finish[gate.id] = start + getattr(gate.days, which)
    return max(finish.values())


def test_the_same_seed_gives_the_same_answer_and_another_one_another():
    assert forecast(CHAIN, seed=7) == forecast(CHAIN, seed=7)
    assert forecast(CHAIN, seed=7) != forecast(CHAIN, seed=8)


@given(dags(), st.integers(0, 2**32))
def test_every_answer_lies_between_all_best_and_all_worst(gates, seed):
    result = forecast(gates, trials=200, seed=seed)
    assert bound(gates, "best") - 1e-3 <= result.p50 <= result.p80
    assert result.p80 <= bound(gates, "worst") + 1e-3
    for gate in result.gates.values():
        assert 0 <= gate.on_path <= 1
        assert gate.finish_p50 <= gate.finish_p80


def test_it_agrees_with_a_plain_simulation_of_the_same_distribution():
    rng = random.Random(1)

    def pert(span: DurationEstimate) -> float:
        width = span.worst - span.best
        rise = 1 + 4 * (span.likely - span.best) / width
        fall = 1 + 4 * (span.worst - span.likely) / width
        return span.best + width * rng.betavariate(rise, fall)

    b, c = FORK[1].days, FORK[2].days
    totals = sorted(2 + max(pert(b), pert(c)) for _ in range(40_000))
    result = forecast(FORK, trials=40_000)
    assert result.p50 == pytest.approx(totals[20_000], abs=0.03)
    assert result.p80 == pytest.approx(totals[32_000], abs=0.04)
    assert result.mean == pytest.approx(statistics.fmean(totals), abs=0.03)


def test_the_mean_of_one_gate_is_its_pert_mean():
    result = forecast((gate("a", 1, 2, 9),))
    assert result.mean == pytest.approx((1 + 4 * 2 + 9) / 6, abs=0.03)


def test_the_days_of_the_gates_add_up_to_the_whole_and_are_counted_by_owner():
    result = forecast(CHAIN)
    assert sum(gate.days for gate in result.gates.values()) == pytest.approx(result.mean, abs=1e-3)
    assert result.remaining["customer"] == pytest.approx(result.gates["b"].days)
    assert result.remaining["us"] == pytest.approx(result.mean - result.gates["b"].days, abs=1e-3)
    assert result.remaining["makini"] == 0


def test_the_gate_that_delays_matters_and_the_one_beside_it_does_not():
    gates = (gate("slow", 8, 9, 10), gate("quick", 1, 2, 3), gate("end", 1, 1, 1, "slow", "quick"))
    result = forecast(gates)
    assert [connection for connection, _ in result.matter_most()] == ["slow", "end"]
    assert result.gates["quick"].on_path == 0


def test_the_chance_of_a_date_rises_from_none_to_certain():
    chances = [forecast(CHAIN, committed=day).chance for day in range(13)]
    assert chances == sorted(chances)
    assert (chances[3], chances[12]) == (0, 1)
    assert forecast(CHAIN).chance is None


def test_a_date_that_is_just_kept_is_kept():
    fixed = (gate("a", 2, 2, 2), gate("b", 3, 3, 3, "a"))
    assert forecast(fixed, committed=5).chance == 1
    assert forecast(fixed).p80 == 5


def test_what_is_done_is_certain_and_what_follows_starts_now():
    done = {"a": GateProgress(opened=0, finished=1.5)}
    result = forecast(CHAIN, progress=done, now=4)
    assert result.gates["a"].finish_p50 == 1.5
    assert 4 + 1 + 2 <= result.p50 <= 4 + 4 + 2
    assert result.gates["b"].start_p50 == 4


def test_an_open_gate_takes_at_least_as_long_as_it_already_has():
    result = forecast(CHAIN, progress={"a": GateProgress(opened=0)}, now=2)
    assert 2 <= result.gates["a"].finish_p50 <= 6
    fresh = forecast(CHAIN)
    assert result.gates["a"].finish_p50 > fresh.gates["a"].finish_p50


def test_a_gate_past_its_worst_case_is_not_about_to_end():
    result = forecast(CHAIN, progress={"a": GateProgress(opened=0)}, now=10)
    assert result.gates["a"].finish_p50 == pytest.approx(
        10 + forecast(CHAIN).gates["a"].finish_p50, abs=0.1
    )


def test_what_is_left_of_a_gate_never_jumps_while_it_is_open():
    left = [
        forecast(CHAIN, progress={"a": GateProgress(opened=0)}, now=now / 4).gates["a"].finish_p50
        - now / 4
        for now in range(40)
    ]
    assert max(abs(after - before) for before, after in pairwise(left)) < 0.4
    assert min(left) > 0.7


def test_a_gate_blocked_since_its_start_has_all_of_its_days_left():
    fresh = forecast(CHAIN).gates["a"].finish_p50
    for now in (1, 4, 5.9, 6, 20):
        blocked = GateProgress(opened=0, blocked=now)
        result = forecast(CHAIN, progress={"a": blocked}, now=now)
        assert result.gates["a"].finish_p50 == pytest.approx(now + fresh, abs=0.1)


@pytest.mark.parametrize("complexity", ["standard", "custom", "enterprise"])
def test_a_plan_inside_the_published_weeks_has_its_p50_there_and_p80_well_beyond_p50(complexity):
    scope = parse_scope(complexity=complexity, kickoff=date(2027, 3, 1), today=date(2026, 11, 24))
    made = make_plan(scope, load_template(complexity))
    paced = forecast(made.gates, paced=True)
    low, high = (5 * weeks for weeks in made.published)
    assert low <= paced.p50 <= high
    plain = forecast(made.gates)
    assert paced.p50 == pytest.approx(plain.p50, rel=0.05)
    assert paced.p80 - paced.p50 > 1.5 * (plain.p80 - plain.p50)


def test_gates_that_were_done_say_how_fast_the_rest_goes():
    gates = tuple(
        gate(str(n), 3, 4, 5, *([str(n - 1)] if n else []), owner="customer") for n in range(10)
    )

    def half_done(days: float) -> float:
        done = {str(n): GateProgress(opened=n * days, finished=(n + 1) * days) for n in range(5)}
        return forecast(gates, progress=done, now=5 * days, paced=True).p50 - 5 * days

    assert half_done(8) > 1.25 * half_done(4) > 1.5 * half_done(2)
    assert half_done(4) == pytest.approx(20, rel=0.05)


def test_an_agreed_window_holds_a_gate_back_and_a_skipped_one_takes_nothing():
    assert forecast(CHAIN, progress={"b": GateProgress(earliest=20)}).p50 >= 23
    skipped = {"a": GateProgress(finished=0.0)}
    assert forecast(CHAIN, progress=skipped).p50 < forecast(CHAIN).p50 - 1


@given(dags(), st.data())
def test_any_progress_gives_a_forecast_not_before_now(gates, data):
    now = data.draw(st.floats(0, 50))
    progress = {}
    for gate in gates:
        opened = data.draw(st.none() | st.floats(-5, 50))
        finished = data.draw(st.none() | st.floats(-5, 50))
        progress[gate.id] = GateProgress(opened, finished)
    result = forecast(gates, trials=50, progress=progress, now=now)
    assert result.p50 <= result.p80
    if any(one.finished is None for one in progress.values()):
        assert result.p50 >= now - 1e-3


def test_nothing_left_to_do_needs_no_luck():
    done = {one.id: GateProgress(opened=0, finished=3.0) for one in CHAIN}
    result = forecast(CHAIN, progress=done, now=9, committed=3)
    assert (result.p50, result.p80, result.chance) == (3, 3, 1)


@pytest.mark.parametrize("trials", [0, -1, 10_000_000])
def test_an_absurd_number_of_trials_is_refused(trials):
    with pytest.raises(PlanError, match=r"^trials"):
        forecast(CHAIN, trials=trials)


def test_one_trial_is_enough_for_an_answer():
    scope = parse_scope(
        complexity="enterprise", systems=8, kickoff=date(2027, 3, 1), today=date(2026, 11, 24)
    )
    made = make_plan(scope, load_template("enterprise"))
    assert made.best <= forecast(made.gates, trials=1).p50 <= made.worst
