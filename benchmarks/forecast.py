"""Forecast of a 60-gate plan, 10,000 trials: numpy beside a plain Python loop, in one run.

The loop does the same job the plain way: the same distribution by `random.betavariate`, the same
walk over the gates, the same answers. The ratio is what counts; goal at least 50.
"""

import math
import random
import time
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from linekeeper.implementation.forecast import TRIALS, forecast
from linekeeper.implementation.plan import Gate, make_plan
from linekeeper.implementation.scope import parse_scope
from linekeeper.implementation.template import load_template

GATES = 60
GOAL = 50
REPEATS, PLAIN_REPEATS = 9, 3
AGREE = 0.02


def sixty_gates() -> tuple[Gate, ...]:
    """Enterprise, on-premises, nine systems, six custom workflows."""
    today = date.today()  # noqa: DTZ011 - any kickoff will do
    scope = parse_scope(
        complexity="enterprise",
        hosting="on-premises",
        systems=9,
        custom_workflows=6,
        kickoff=today + timedelta(days=7),
        today=today,
    )
    return make_plan(scope, load_template("enterprise")).gates


def plain_loop(gates: Sequence[Gate], trials: int, seed: int) -> dict[str, Any]:
    """P50, P80, each gate's share of critical trials and mean days, without numpy."""
    rng = random.Random(seed)
    index = {gate.id: n for n, gate in enumerate(gates)}
    before = [[index[one] for one in (*gate.needs, *gate.after)] for gate in gates]
    shapes = []
    for gate in gates:
        span = gate.days
        width = span.worst - span.best
        rise = 1 + 4 * (span.likely - span.best) / width if width else 1.0
        fall = 1 + 4 * (span.worst - span.likely) / width if width else 1.0
        shapes.append((span.best, width, rise, fall))
    totals: list[float] = []
    on_path = [0] * len(gates)
    on_path_days = [0.0] * len(gates)
    for _ in range(trials):
        start: list[float] = []
        finish: list[float] = []
        taken: list[float] = []
        for n, (best, width, rise, fall) in enumerate(shapes):
            days = best + width * rng.betavariate(rise, fall) if width else best
            begin = max((finish[one] for one in before[n]), default=0.0)
            start.append(begin)
            taken.append(days)
            finish.append(begin + days)
        total = max(finish)
        totals.append(total)
        critical = [one == total for one in finish]
        for n in range(len(gates) - 1, -1, -1):
            if critical[n]:
                on_path[n] += 1
                on_path_days[n] += taken[n]
                for one in before[n]:
                    if finish[one] == start[n]:
                        critical[one] = True
    totals.sort()
    return {
        "p50": totals[math.ceil(trials * 0.5) - 1],
        "p80": totals[math.ceil(trials * 0.8) - 1],
        "on_path": [count / trials for count in on_path],
        "days": [one / trials for one in on_path_days],
    }


def run() -> dict[str, Any]:
    """Times in seconds (the best of several, so that other load counts least), ratio, answers."""
    gates = sixty_gates()
    assert len(gates) == GATES, len(gates)
    forecast(gates, trials=10)
    fast, slow = [], []
    for seed in range(REPEATS):
        begin = time.perf_counter()
        result = forecast(gates, trials=TRIALS, seed=seed)
        fast.append(time.perf_counter() - begin)
    for seed in range(PLAIN_REPEATS):
        begin = time.perf_counter()
        plain = plain_loop(gates, TRIALS, seed)
        slow.append(time.perf_counter() - begin)
    for ours, theirs in ((result.p50, plain["p50"]), (result.p80, plain["p80"])):
        assert abs(ours - theirs) < AGREE * theirs, (ours, theirs)
    for gate, share in zip(gates, plain["on_path"], strict=True):
        assert abs(result.gates[gate.id].on_path - share) < AGREE, gate.id
    return {
        "name": "forecast",
        "gates": len(gates),
        "trials": TRIALS,
        "numpy_seconds": round(min(fast), 5),
        "plain_python_seconds": round(min(slow), 3),
        "ratio": round(min(slow) / min(fast), 1),
        "goal": GOAL,
        "p50_days": {"numpy": round(result.p50, 2), "plain_python": round(plain["p50"], 2)},
        "p80_days": {"numpy": round(result.p80, 2), "plain_python": round(plain["p80"], 2)},
    }


def main() -> None:
    """Print one run."""
    result = run()
    print(
        f"forecast of {result['gates']} gates, {result['trials']} trials: "
        f"numpy {result['numpy_seconds'] * 1000:.1f} ms, "
        f"plain Python {result['plain_python_seconds']:.2f} s, "
        f"{result['ratio']:.0f} x (goal {result['goal']} x)"
    )
    print(f"P50 {result['p50_days']}, P80 {result['p80_days']} working days")


if __name__ == "__main__":
    main()
