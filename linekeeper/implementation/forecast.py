"""Forecast: Monte Carlo over the gates, in working days from the plan's start.

Each gate's duration is a PERT distribution over its three points. A distribution is drawn through
a table of its quantiles, so that a trial costs one random integer and one look-up per gate.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from linekeeper.implementation.plan import DurationEstimate, PlannedGate
from linekeeper.implementation.scope import PlanError
from linekeeper.implementation.template import Owner

TRIALS = 10_000
MAX_TRIALS = 1_000_000
OWNERS: tuple[Owner, ...] = get_args(Owner)

PACE_SPREAD: Mapping[Owner, float] = {"customer": 0.3, "us": 0.15, "makini": 0.0}
"""The prior: how much faster or slower than planned one customer, or we, are on everything, as the
standard deviation of the factor's logarithm; 0.3: in two of three cases between 0.74 and 1.35."""
PACE_NOISE = 0.6
"""The same of a single gate: how little one gate that is done says of the pace."""
PACE_LIMIT = 3.0

_STRATA = 1024
_GRID = 1025
_BAND_TRIALS = 1000
_ROUNDING = 1e-3

_Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class GateProgress:
    """What has happened to a gate, in working days from the plan's start.

    Skipped is finished without having taken time. `earliest` is when it may begin at all.
    """

    opened: float | None = None
    finished: float | None = None
    earliest: float = 0.0
    blocked: float = 0.0
    """How many days of that nobody could work on it."""


@dataclass(frozen=True, slots=True)
class GateForecast:
    """When a gate will be done, and how much it matters."""

    start_p50: float
    finish_p50: float
    finish_p80: float
    on_path: float
    """The share of the trials in which the go-live waited for this gate."""
    days: float
    """Mean working days by which it makes the whole longer, from now on."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Working days from the plan's start; the shares are 0 to 1."""

    p50: float
    p80: float
    mean: float
    chance: float | None
    """That the committed day is kept; None without one."""
    remaining: Mapping[Owner, float]
    """Mean working days still to go on the longest path, by who has to act."""
    gates: Mapping[str, GateForecast] = field(repr=False)

    def matter_most(self, count: int = 5) -> list[tuple[str, GateForecast]]:
        """The gates that make the whole longest, the first one most; none that add nothing."""
        ranked = sorted(self.gates.items(), key=lambda item: -item[1].days)
        return [item for item in ranked[:count] if item[1].days > 0]


def forecast(
    gates: Sequence[PlannedGate],
    *,
    trials: int = TRIALS,
    seed: int = 0,
    progress: Mapping[str, GateProgress] | None = None,
    now: float = 0.0,
    committed: float | None = None,
    paced: bool = False,
) -> Forecast:
    """Play the rest of the implementation `trials` times; the same arguments, the same answer.

    `gates` come in a plan's order. `now` and `committed` are working days from the start, the
    latter the whole days available. A gate that is open for a while takes at least that long; one
    that has outlived its worst case is drawn as if it began anew, since nothing says that it ends.
    """
    if not 1 <= trials <= MAX_TRIALS:
        raise PlanError("trials", f"{trials} is outside 1 to {MAX_TRIALS}")
    if not gates:
        raise PlanError("gates", "there are none")
    done = progress or {}
    index = {gate.id: n for n, gate in enumerate(gates)}
    before = [[index[need] for need in (*gate.needs, *gate.after)] for gate in gates]
    spent = [_spent(done.get(gate.id), now) for gate in gates]
    remaining = _draw(gates, spent, trials, seed)
    if paced:
        _pace(gates, done, remaining, seed)
    start, finish = _play(gates, before, done, remaining, now)
    total = finish.max(axis=0)
    critical = _critical(before, start, finish, total)
    on_path = critical.mean(axis=1)
    # One pass, without a temporary of the size of all trials.
    days = np.einsum("gt,gt->g", remaining, critical, dtype=np.float32, casting="unsafe") / trials

    p50, p80 = _percentiles(total, (50, 80))
    sample = slice(0, _BAND_TRIALS)
    starts = np.sort(start[:, sample], axis=1)
    finishes = np.sort(finish[:, sample], axis=1)
    is_last = [bool((each == total).all()) for each in finish]
    half, most = (_rank(starts.shape[1], percent) for percent in (50, 80))
    return Forecast(
        p50=p50,
        p80=p80,
        mean=float(total.mean(dtype=np.float64)),
        chance=None if committed is None else float(np.mean(total <= committed + _ROUNDING)),
        remaining={
            owner: float(sum(days[n] for n, gate in enumerate(gates) if gate.owner == owner))
            for owner in OWNERS
        },
        gates={
            gate.id: GateForecast(
                start_p50=float(starts[n, half]),
                finish_p50=p50 if is_last[n] else min(float(finishes[n, half]), p50),
                finish_p80=p80 if is_last[n] else min(float(finishes[n, most]), p80),
                on_path=float(on_path[n]),
                days=float(days[n]),
            )
            for n, gate in enumerate(gates)
        },
    )


def _spent(progress: GateProgress | None, now: float) -> float | None:
    """Working days an open gate has been open; None once it is done."""
    if progress is None or (progress.opened is None and progress.finished is None):
        return 0.0
    if progress.finished is not None or progress.opened is None:
        return None
    return max(now - progress.opened - progress.blocked, 0.0)


def _draw(
    gates: Sequence[PlannedGate], spent: Sequence[float | None], trials: int, seed: int
) -> _Floats:
    """What each gate still takes in each trial; gates by trials."""
    random = np.random.Generator(np.random.SFC64(seed))
    strata = random.integers(0, _STRATA, size=(len(gates), trials), dtype=np.uint16)
    drawn = np.empty((len(gates), trials), dtype=np.float32)
    tables: dict[tuple[DurationEstimate, float], _Floats] = {}
    for n, gate in enumerate(gates):
        elapsed = spent[n]
        if elapsed is None or gate.days.worst == 0:
            drawn[n] = 0
            continue
        key = (gate.days, elapsed)
        if key not in tables:
            tables[key] = _remaining(gate.days, elapsed)
        np.take(tables[key], strata[n], out=drawn[n], mode="clip")
    return drawn


def _pace(
    gates: Sequence[PlannedGate],
    progress: Mapping[str, GateProgress],
    remaining: _Floats,
    seed: int,
) -> None:
    """Stretch what is left by one factor for each owner in each trial: who is slow once is slow
    again. The prior is `PACE_SPREAD`, with a median of 1; each gate that was done updates it."""
    for number, owner in enumerate(OWNERS):
        if (spread := PACE_SPREAD[owner]) == 0:
            continue
        said = [pace for gate in gates if gate.owner == owner and (pace := _said(gate, progress))]
        precision = 1 / spread**2 + len(said) / PACE_NOISE**2
        middle = sum(math.log(pace) for pace in said) / PACE_NOISE**2 / precision
        random = np.random.Generator(np.random.SFC64([seed, number]))
        drawn = random.standard_normal(remaining.shape[1])
        factor = np.exp(middle + drawn / math.sqrt(precision))
        factor = np.clip(factor, 1 / PACE_LIMIT, PACE_LIMIT).astype(np.float32)
        for n, gate in enumerate(gates):
            if gate.owner == owner:
                remaining[n] *= factor


def _said(gate: PlannedGate, progress: Mapping[str, GateProgress]) -> float | None:
    """How many times as long as expected a gate took that was done; None: it says nothing."""
    course = progress.get(gate.id)
    if (
        course is None
        or course.opened is None
        or course.finished is None
        or gate.days.expected == 0
    ):
        return None
    took = course.finished - course.opened - course.blocked
    if took <= 0:
        return None
    return min(max(took / gate.days.expected, 1 / PACE_LIMIT), PACE_LIMIT)


def _remaining(span: DurationEstimate, elapsed: float) -> _Floats:
    """Quantiles of what is left of a PERT duration of which `elapsed` has passed."""
    if elapsed > span.likely or elapsed >= span.worst:
        # The longer it outlasts what was likely, the less the plan says of when it ends: from
        # there to its worst case it becomes, without a jump, a gate that begins anew.
        over = 1.0
        if elapsed < span.worst:
            over = (elapsed - span.likely) / (span.worst - span.likely)
        anew = _conditional(span, 0.0)
        if over >= 1.0:
            return anew
        return ((1 - over) * _conditional(span, elapsed) + over * anew).astype(np.float32)
    return _conditional(span, elapsed)


def _conditional(span: DurationEstimate, elapsed: float) -> _Floats:
    """Quantiles of what is left of a duration that lasts longer than `elapsed`."""
    width = span.worst - span.best
    if width == 0:
        return np.full(_STRATA, span.worst - elapsed, dtype=np.float32)
    x = np.linspace(0, 1, _GRID)
    rise, fall = (
        4 * (span.likely - span.best) / width,
        4 * (span.worst - span.likely) / width,
    )
    density = x**rise * (1 - x) ** fall
    share = np.concatenate(([0.0], np.cumsum(density[1:] + density[:-1])))
    share /= share[-1]
    passed = np.interp((elapsed - span.best) / width, x, share)
    wanted = passed + (1 - passed) * (np.arange(_STRATA) + 0.5) / _STRATA
    duration = span.best + width * np.interp(wanted, share, x)
    return np.maximum(duration - elapsed, 0).astype(np.float32)


def _play(
    gates: Sequence[PlannedGate],
    before: Sequence[Sequence[int]],
    progress: Mapping[str, GateProgress],
    remaining: _Floats,
    now: float,
) -> tuple[_Floats, _Floats]:
    """Start (of what remains) and finish of each gate in each trial."""
    start = np.empty_like(remaining)
    finish = np.empty_like(remaining)
    for n, gate in enumerate(gates):
        known = progress.get(gate.id, GateProgress())
        if known.finished is not None:
            start[n] = known.finished if known.opened is None else known.opened
            finish[n] = known.finished
            continue
        floor = max(now, known.earliest)
        # An open gate waits for nothing any more.
        waits = before[n] if known.opened is None else ()
        if not waits:
            start[n] = floor
        else:
            np.maximum(finish[waits[0]], np.float32(floor), out=start[n])
            for other in waits[1:]:
                np.maximum(start[n], finish[other], out=start[n])
        np.add(start[n], remaining[n], out=finish[n])
    return start, finish


def _critical(
    before: Sequence[Sequence[int]], start: _Floats, finish: _Floats, total: _Floats
) -> NDArray[np.bool_]:
    """Whether the end waited for a gate; gates by trials. Backwards from the end."""
    critical = np.equal(finish, total)
    for n in reversed(range(len(before))):
        for earlier in before[n]:
            critical[earlier] |= critical[n] & (finish[earlier] == start[n])
    return critical


def _rank(count: int, percent: int) -> int:
    """The place in sorted order of the smallest value that `percent` of all don't exceed."""
    return max(-(-count * percent // 100) - 1, 0)


def _percentiles(values: _Floats, percents: Sequence[int]) -> list[float]:
    ranks = [_rank(len(values), percent) for percent in percents]
    ordered = np.partition(values, ranks)
    return [float(ordered[rank]) for rank in ranks]
