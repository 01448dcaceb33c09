"""The digest's pictures: bars by day. Pure; SVG that stands on its own background."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _RIGHT, _TOP, _TALL = 960, 52, 24, 54, 140
_PLOT = _WIDTH - _LEFT - _RIGHT
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1f2937}.s{font-size:11px;fill:#4b5563}"
    ".t{font-weight:600}.bg{fill:#fff;stroke:#d1d5db}.g{stroke:#e5e7eb}"
    ".c0{fill:#d33a3a}.c1{fill:#e0a100}.c2{fill:#8a94a3}.c3{fill:#2b8fc4}"
    "@media(prefers-color-scheme:dark){text{fill:#e5e7eb}.s{fill:#aab1bd}"
    ".bg{fill:#161b24;stroke:#343c4a}.g{stroke:#272e3a}"
    ".c0{fill:#f26d6d}.c1{fill:#f5c542}.c2{fill:#aab4c2}.c3{fill:#63b8e6}}"
)


@dataclass(frozen=True, slots=True)
class Bars:
    """Stacked bars: for each day how many of each name; names in the order of stacking."""

    title: str
    names: Sequence[str]
    days: Mapping[date, Mapping[str, float]]
    unit: str = ""


def bars(chart: Bars) -> str:
    """The chart as SVG; the same input gives the same bytes."""
    most = max((sum(day.values()) for day in chart.days.values()), default=0)
    ceiling = _ceiling(most)
    height = _TOP + _TALL + 40
    ground = _TOP + _TALL
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" role="img"><title>{escape(chart.title)}</title>'
        f"<style>{_STYLE}</style>"
        f'<rect class="bg" x=".5" y=".5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>'
        f'<text class="t" x="{_LEFT}" y="24">{escape(chart.title)}</text>'
    ]
    x = _LEFT + 16 + 7 * len(chart.title)
    for n, name in enumerate(chart.names if len(chart.names) > 1 else ()):
        parts.append(f'<rect class="c{n}" x="{x}" y="14" width="11" height="11" rx="2"/>')
        parts.append(f'<text class="s" x="{x + 15}" y="24">{escape(name)}</text>')
        x += 30 + 7 * len(name)
    for share in (0, 0.5, 1):
        y = ground - _TALL * share
        value = f"{ceiling * share:g}{chart.unit}"
        parts.append(f'<path class="g" d="M{_LEFT} {y:g}h{_PLOT}"/>')
        parts.append(
            f'<text class="s" x="{_LEFT - 8}" y="{y + 4:g}" text-anchor="end">{value}</text>'
        )
    wide = _PLOT / max(len(chart.days), 1)
    for n, (day, counts) in enumerate(sorted(chart.days.items())):
        left, y = _LEFT + n * wide, float(ground)
        for colour, name in enumerate(chart.names):
            tall = counts.get(name, 0) * _TALL / ceiling
            if tall > 0:
                y -= tall
                parts.append(
                    f'<rect class="c{colour}" x="{left + 2:.1f}" y="{y:.1f}" '
                    f'width="{max(wide - 4, 2):.1f}" height="{tall:.1f}" rx="1"/>'
                )
        if n % max(1, math.ceil(len(chart.days) / 12)) == 0:
            parts.append(
                f'<text class="s" x="{left + wide / 2:.1f}" y="{ground + 18}" '
                f'text-anchor="middle">{day:%d %b}</text>'
            )
    if not most:
        parts.append(
            f'<text class="s" x="{_WIDTH // 2}" y="{_TOP + _TALL // 2}" text-anchor="middle">'
            "nothing</text>"
        )
    return "".join([*parts, "</svg>"])


def _ceiling(most: float) -> float:
    """A round number that `most` fits under, and that halves well."""
    if most <= 2:
        return 2
    power = math.pow(10, int(math.log10(most)))
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= most)
