"""Forecast of a 60-gate plan, 10,000 trials: numpy beside a plain Python loop, in one run.

The loop does the same job the plain way: the same distribution by `random.betavariate`, the same
walk over the gates, the same answers. The ratio is what counts; goal at least 50. Then the hourly
run over 200 implementations in progress, on SQLite, and the size of a chart of 60 gates.
"""

import asyncio
import json
import math
import random
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from pydantic import SecretStr

from linekeeper.implementation.advance import advance_all, look, restart_lost
from linekeeper.implementation.calendar import WorkingCalendar
from linekeeper.implementation.chart import gantt
from linekeeper.implementation.forecast import TRIALS, forecast
from linekeeper.implementation.order import Form
from linekeeper.implementation.outlook import forecast_plan
from linekeeper.implementation.plan import Plan, PlannedGate, make_plan
from linekeeper.implementation.report import implementation_markdown
from linekeeper.implementation.scope import COMPLEXITIES, HOSTINGS, parse_scope
from linekeeper.implementation.start import start
from linekeeper.implementation.template import load_template
from linekeeper.notify.view import Links
from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.migrate import migrate

GATES = 60
IMPLEMENTATIONS = 200
GOALS = {
    "forecast_ratio": 50,
    "hourly_200_s": 10.0,
    "first_of_the_day_200_s": 10.0,
    "gantt_60_gates_mb": 0.06,
}
REPEATS, PLAIN_REPEATS = 9, 3
AGREE = 0.02


def sixty_gates() -> Plan:
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
    return make_plan(scope, load_template("enterprise"))


def plain_loop(gates: Sequence[PlannedGate], trials: int, seed: int) -> dict[str, Any]:
    """P50, P80, each gate's share of critical trials and mean days, without numpy."""
    rng = random.Random(seed)
    index = {gate.id: n for n, gate in enumerate(gates)}
    before = [[index[name] for name in (*gate.needs, *gate.after)] for gate in gates]
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
            begin = max((finish[earlier] for earlier in before[n]), default=0.0)
            start.append(begin)
            taken.append(days)
            finish.append(begin + days)
        total = max(finish)
        totals.append(total)
        critical = [end == total for end in finish]
        for n in range(len(gates) - 1, -1, -1):
            if critical[n]:
                on_path[n] += 1
                on_path_days[n] += taken[n]
                for earlier in before[n]:
                    if finish[earlier] == start[n]:
                        critical[earlier] = True
    totals.sort()
    return {
        "p50": totals[math.ceil(trials * 0.5) - 1],
        "p80": totals[math.ceil(trials * 0.8) - 1],
        "on_path": [count / trials for count in on_path],
        "days": [day / trials for day in on_path_days],
    }


def faster() -> tuple[float, float]:
    """Seconds of ours and of the loop (the best of several, so that other load counts least)."""
    gates = sixty_gates().gates
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
    return min(fast), min(slow)


async def hourly(home: Path) -> tuple[float, float]:
    """CPU seconds of one hourly run, and of the first one of a day, which draws all anew."""
    key = SecretStr(Fernet.generate_key().decode())
    settings = Settings(home=home, encryption_keys=[key], _env_file=None)
    now = datetime(2027, 3, 1, 9, tzinfo=UTC)
    async with Store.open(settings) as store:
        await migrate(store)
        for n in range(IMPLEMENTATIONS):
            complexity = COMPLEXITIES[n % 3]
            form = Form(
                customer=f"Customer {n}",
                systems=[
                    f"System {number}" for number in range(1 if complexity == "standard" else 3)
                ],
                complexity=complexity,
                kickoff=now.date(),
                by="benchmark",
                owner=f"Owner {n % 7}",
                hosting=HOSTINGS[n % len(HOSTINGS)],
                committed=now.date() + timedelta(weeks=8),
                country="DE",
            )
            await start(store, form, now=now)
        taken = []
        for later in (timedelta(hours=1), timedelta(days=1)):
            begin = time.process_time()
            done = await advance_all(store, now=now + later)
            await restart_lost(store, set(), before=now, now=now + later)
            taken.append(time.process_time() - begin)
            assert done.looked_at == IMPLEMENTATIONS, done.looked_at
        begin = time.process_time()
        for identifier in done.aged:
            progress = await look(store, identifier, now=now + later)
            implementation_markdown(progress, now + later, Links())
        assert len(done.aged) == IMPLEMENTATIONS, len(done.aged)
        taken[1] += time.process_time() - begin
    return taken[0], taken[1]


def run() -> dict[str, Any]:
    """The figures and their goals."""
    fast, slow = faster()
    plan = sixty_gates()
    chart = gantt(forecast_plan(plan, WorkingCalendar("DE")), "Sixty gates")
    with tempfile.TemporaryDirectory(prefix="linekeeper-bench-") as home:
        hour, day = asyncio.run(hourly(Path(home)))
    return {
        "forecast_ratio": round(slow / fast, 1),
        "forecast_ms": round(fast * 1000, 2),
        "plain_python_ms": round(slow * 1000, 1),
        "hourly_200_s": round(hour, 2),
        "first_of_the_day_200_s": round(day, 2),
        "gantt_60_gates_mb": round(len(chart) / 1_000_000, 4),
        "goals": GOALS,
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
