"""A Gantt as SVG: plan, forecast, what happened, the critical path, today, waiting times."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from linekeeper.charts import WIDTH, number, open_chart, safe, small, title
from linekeeper.implementation.evaluate import Evaluation, GateState, turns
from linekeeper.implementation.outlook import Outlook
from linekeeper.implementation.plan import PlannedGate

_Interval = tuple[float, float]
"""An interval from and to, as date ordinals with the part of the day."""

LABELS, MARGIN = 300, 12
ROW, HEADER, LEGEND = 22, 64, 34
DATE_WIDTH, MAX_LABEL = 60, 46

_STYLE = (
    ".s{font-size:10px}.t{font-size:14px}.bg{stroke:none}.r{fill:#f3f5f8}.g{stroke:#d1d5db}"
    ".p{fill:#93b4e8}.k{fill:#2f6fd6}"
    ".f{fill:none;stroke:#b45309;stroke-width:3;stroke-linecap:round}"
    ".a{fill:#15803d}.b{fill:#b91c1c}.n{stroke:#b91c1c;stroke-dasharray:4 3}.c{font-weight:600}"
    ".d{stroke:#6d28d9;stroke-dasharray:1 3;stroke-width:2}.h{fill:#a16207}.w{fill:url(#w)}"
)
_STYLE_DARK = (
    ".bg{stroke:none}.r{fill:#1c2330}.g{stroke:#343c4a}.p{fill:#3d5a8f}.k{fill:#6ea8fe}"
    ".f{stroke:#fbbf24}.a{fill:#4ade80}.b{fill:#f87171}.n{stroke:#f87171}.d{stroke:#c4b5fd}"
    ".h{fill:#facc15}"
)


@dataclass(frozen=True, slots=True)
class _Bar:
    label: str
    critical: bool
    planned: _Interval
    forecast: _Interval | None
    actual: _Interval | None
    waiting: tuple[_Interval, ...]
    blocked: bool


def gantt(
    outlook: Outlook,
    heading: str,
    now: datetime | None = None,
    evaluation: Evaluation | None = None,
) -> str:
    """The chart of `outlook`: with `now` (aware) today's line, with `evaluation` what happened.

    Without an evaluation the time planned for the customer's own gates is shaded as waiting for
    the customer; with one, the time in which it really was the customer's turn.
    """
    bars = [_bar(outlook, gate, now, evaluation) for gate in outlook.plan.gates]
    committed = outlook.plan.scope.committed
    marks = [
        ("n", "today", _moment(outlook, now)) if now is not None else None,
        ("d", "committed", committed.toordinal() + 1.0) if committed is not None else None,
    ]
    subtitle = f"go-live P50 {outlook.p50} · P80 {outlook.p80}"
    return _draw(bars, heading, subtitle, [mark for mark in marks if mark is not None])


def _bar(
    outlook: Outlook, gate: PlannedGate, now: datetime | None, evaluation: Evaluation | None
) -> _Bar:
    calendar, start, plan = outlook.calendar, outlook.start, outlook.plan
    slot = plan.slots[gate.id]
    band = outlook.forecast.gates[gate.id]
    planned = (
        calendar.ordinal(start, slot.start, ending=False),
        calendar.ordinal(start, slot.finish, ending=True),
    )
    status = evaluation.statuses[gate.id] if evaluation is not None else "pending"
    state = evaluation.states[gate.id] if evaluation is not None else GateState()
    waiting: list[_Interval] = []
    actual: _Interval | None = None
    if state.opened_at is not None and now is not None and status != "skipped":
        actual = (_moment(outlook, state.opened_at), _moment(outlook, state.done_at or now))
        waiting = [
            (_moment(outlook, since), _moment(outlook, until))
            for since, until, who in turns(gate, state, now, evaluation.holds if evaluation else ())
            if who == "customer"
        ]
    elif evaluation is None and gate.owner == "customer":
        waiting = [planned]
    forecast = None
    if status not in {"done", "skipped"}:
        forecast = (
            calendar.ordinal(start, band.finish_p50, ending=True),
            calendar.ordinal(start, band.finish_p80, ending=True),
        )
    return _Bar(
        label=gate.title + ("" if status != "skipped" else " (skipped)"),
        critical=gate.id in plan.critical_path,
        planned=planned,
        forecast=forecast,
        actual=actual,
        waiting=tuple(waiting),
        blocked=status == "blocked",
    )


def _moment(outlook: Outlook, at: datetime) -> float:
    """A real moment on the axis: a calendar day is as wide as its working hours."""
    local = at.astimezone(outlook.calendar.zone)
    return local.date().toordinal() + outlook.calendar.part_of_day(at)


def _draw(
    bars: Sequence[_Bar], heading: str, subtitle: str, marks: Sequence[tuple[str, str, float]]
) -> str:
    positions = [x for bar in bars for x in _positions(bar)] + [mark[2] for mark in marks]
    first = min(positions) // 1
    last = max(*positions, first + 1)
    scale = (WIDTH - LABELS - 2 * MARGIN) / (last - first)
    bottom = HEADER + ROW * len(bars)
    height = bottom + LEGEND

    def at(x: float) -> str:
        return number(LABELS + MARGIN + (x - first) * scale)

    def rect(kind: str, span: _Interval, y: int, tall: int) -> str:
        width = max((span[1] - span[0]) * scale, 1.5)
        return (
            f'<rect class="{kind}" x="{at(span[0])}" y="{y}" width="{width:.1f}" '
            f'height="{tall}" rx="2"/>'
        )

    parts = [
        open_chart(height, heading, more=_STYLE, more_dark=_STYLE_DARK, corner=""),
        '<defs><pattern id="w" width="5" height="5" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><path class="h" d="M0 0h2v5H0z"/></pattern></defs>',
        title(heading, MARGIN, 22),
        small(MARGIN, 40, subtitle),
    ]
    for n in range(1, len(bars), 2):
        y = HEADER + ROW * n
        parts.append(f'<path class="r" d="M0 {y}h{WIDTH}v{ROW}H0z"/>')
    for day, label in _ticks(first, last):
        parts.append(f'<path class="g" d="M{at(day)} {HEADER - 6}V{bottom}"/>')
        if (last - day) * scale > DATE_WIDTH:
            parts.append(f'<text class="s" x="{at(day)}" y="{HEADER - 10}">{label}</text>')
    for n, bar in enumerate(bars):
        y = HEADER + ROW * n
        mark = ' class="c"' if bar.critical else ""
        parts.append(f'<text{mark} x="{MARGIN}" y="{y + 15}">{safe(bar.label, MAX_LABEL)}</text>')
        parts.append(rect("k" if bar.critical else "p", bar.planned, y + 4, 8))
        if bar.actual is not None:
            parts.append(rect("b" if bar.blocked else "a", bar.actual, y + 12, 4))
        for wait in bar.waiting:
            parts.append(rect("w", wait, y + 4, 12))
        if bar.forecast is not None:
            low, high = bar.forecast
            parts.append(f'<path class="f" d="M{at(low)} {y + 18}H{at(max(high, low + 0.05))}"/>')
    for kind, label, x in marks:
        anchor = "end" if x > (first + last) / 2 else "start"
        parts.append(
            f'<path class="{kind}" d="M{at(x)} {HEADER - 26}V{bottom}"/>'
            f'<text class="s" x="{at(x)}" y="{HEADER - 28}" text-anchor="{anchor}">{label}</text>'
        )
    parts.append(_legend(bottom + 14))
    parts.append("</svg>")
    return "".join(parts)


def _positions(bar: _Bar) -> Iterable[float]:
    for span in (bar.planned, bar.forecast, bar.actual, *bar.waiting):
        if span is not None:
            yield from span


def _ticks(first: float, last: float) -> Iterable[tuple[float, str]]:
    """A line for each Monday, or every second, third … one, so that the dates stay apart."""
    start = date.fromordinal(int(first))
    monday = start - timedelta(days=start.weekday())
    count = (last - monday.toordinal()) / 7
    step = 7 * max(1, round(count / 10 + 0.49))
    day = monday if monday == start else monday + timedelta(days=7)
    while day.toordinal() <= last:
        yield float(day.toordinal()), day.isoformat() if day.day <= step else f"{day:%m-%d}"
        day += timedelta(days=step)


def _legend(y: int) -> str:
    entries = (
        ("k", "critical path (planned)"),
        ("p", "planned"),
        ("a", "actual"),
        ("b", "blocked"),
        ("w", "waiting for the customer"),
    )
    parts = []
    x = MARGIN
    for kind, label in entries:
        parts.append(
            f'<rect class="{kind}" x="{x}" y="{y}" width="16" height="8" rx="2"/>'
            f'<text class="s" x="{x + 21}" y="{y + 8}">{label}</text>'
        )
        x += 40 + 6 * len(label)
    parts.append(
        f'<path class="f" d="M{x} {y + 4}h16"/>'
        f'<text class="s" x="{x + 23}" y="{y + 8}">forecast finish, P50 to P80</text>'
    )
    return "".join(parts)
