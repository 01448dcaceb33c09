"""Charts as SVG for pages and artifacts: the frame that all share, and stacked bars. Pure.

A chart brings its own background and follows the reader's light or dark preference. Every text in
it is escaped, nothing in it links or runs, and the same input gives the same bytes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 960, 52, 24
PLOT = WIDTH - LEFT - RIGHT
"""How wide the part is between the axis and the right margin."""
_TOP, _TALL, _FOOT = 62, 140, 34
_MOST_LABELS = 10


class Colour(NamedTuple):
    """A colour on a light and on a dark page."""

    light: str
    dark: str


RED = Colour("#d33a3a", "#f26d6d")
YELLOW = Colour("#e0a100", "#f5c542")
GREEN = Colour("#22a35a", "#3fbf74")
BLUE = Colour("#2b8fc4", "#63b8e6")
GREY = Colour("#8a94a3", "#aab4c2")
VIOLET = Colour("#7647d6", "#a98bf5")
PALE = Colour("#b9c9c0", "#5d7166")

_LIGHT = (
    "text{font:12px system-ui,sans-serif;fill:#1f2937}.s{font-size:11px;fill:#4b5563}"
    ".t{font-weight:600}.bg{fill:#fff;stroke:#d1d5db}.g{stroke:#e5e7eb}.x{stroke:#9ca3af}"
)
_DARK = (
    "text{fill:#e5e7eb}.s{fill:#aab1bd}.bg{fill:#161b24;stroke:#343c4a}.g{stroke:#272e3a}"
    ".x{stroke:#5b6575}"
)


@dataclass(frozen=True, slots=True)
class Bars:
    """Stacked bars. Each bar has a label and, in the order of `series`, its values."""

    title: str
    series: Sequence[tuple[str, Colour]]
    """What is stacked, from the ground up, and its colour."""
    bars: Sequence[tuple[str, Sequence[float]]]
    """Times in labels are UTC."""
    empty: str = "nothing"
    """What is said where every value is 0."""


def draw_bars(chart: Bars) -> str:
    """The chart; what is there is at least 2 pixels tall, however much the others are."""
    most = max((sum(values) for _, values in chart.bars), default=0)
    ceiling, ground = _round_up(most), _TOP + _TALL
    parts = [
        open_chart(ground + _FOOT, chart.title, colours=[colour for _, colour in chart.series]),
        title(chart.title),
        legend(LEFT, 46, [name for name, _ in chart.series]) if len(chart.series) > 1 else "",
        *(
            grid_line(ground - _TALL * n // 2, f"{ceiling * n / 2:,g}", is_axis=n == 0)
            for n in range(3)
        ),
    ]
    wide = PLOT / max(len(chart.bars), 12)
    every = max(1, math.ceil(len(chart.bars) / _MOST_LABELS))
    for n, (label, values) in enumerate(chart.bars):
        left, y = LEFT + n * wide, float(ground)
        for kind, value in enumerate(values):
            if value > 0:
                tall = max(value * _TALL / ceiling, 2.0)
                y -= tall
                parts.append(
                    f'<rect class="c{kind}" x="{number(left + 1)}" y="{number(y)}" '
                    f'width="{number(max(wide - 2, 1))}" height="{number(tall)}">'
                    f"<title>{safe(label)}: {value:,g}</title></rect>"
                )
        if n % every == 0:
            parts.append(small(left + wide / 2, ground + 18, label, anchor="middle"))
    if not most:
        parts.append(small(WIDTH / 2, _TOP + _TALL / 2, chart.empty, anchor="middle"))
    return "".join([*parts, "</svg>"])


def open_chart(
    height: int,
    name: str,
    *,
    colours: Iterable[Colour] = (),
    more: str = "",
    more_dark: str = "",
    corner: str = "times in UTC",
) -> str:
    """The opening of a chart `WIDTH` wide, to be ended by `</svg>`; `name` is what is read aloud.

    The colours are the classes `c0`, `c1`, …; `more` and `more_dark` are further rules of style;
    `corner` is said at the upper right.
    """
    light, dark = _LIGHT + more, _DARK + more_dark
    for n, colour in enumerate(colours):
        light += f".c{n}{{fill:{colour.light}}}"
        dark += f".c{n}{{fill:{colour.dark}}}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img"><title>{safe(name, 200)}</title>'
        f"<style>{light}@media(prefers-color-scheme:dark){{{dark}}}</style>"
        f'<rect class="bg" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>'
        + small(WIDTH - RIGHT, 24, corner, anchor="end")
    )


def title(words: str, x: float = LEFT, y: int = 24) -> str:
    return f'<text class="t" x="{number(x)}" y="{y}">{safe(words, 100)}</text>'


def small(x: float, y: float, words: str, *, anchor: str = "start") -> str:
    """A label; `anchor` is the end of it that is at `x`."""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="s" x="{number(x)}" y="{number(y)}"{where}>{safe(words)}</text>'


def legend(x: float, y: int, names: Iterable[str], *, kinds: Iterable[int] | None = None) -> str:
    """What the colours mean: of the class `c0` and on, or of `kinds`."""
    names = list(names)
    parts = []
    for kind, name in zip(range(len(names)) if kinds is None else kinds, names, strict=True):
        parts.append(
            f'<rect class="c{kind}" x="{number(x)}" y="{y - 10}" width="11" height="11" rx="2"/>'
            + small(x + 16, y, name)
        )
        x += 38 + 6 * len(name)
    return "".join(parts)


def grid_line(y: int, label: str, *, is_axis: bool) -> str:
    """A horizontal line across, with its value at the left."""
    line = f'<path class="{"x" if is_axis else "g"}" d="M{LEFT} {y}h{PLOT}"/>'
    return line + small(LEFT - 8, y + 4, label, anchor="end")


def number(value: float) -> str:
    """A coordinate: a tenth of a pixel is fine enough."""
    return f"{value:.1f}".removesuffix(".0")


def safe(words: str, most: int = 60) -> str:
    """Cut to `most` characters and safe inside an element, whatever it contains."""
    flat = "".join(char if char.isprintable() else " " for char in words)
    return escape(flat if len(flat) <= most else f"{flat[: most - 1]}…")


def _round_up(most: float) -> int:
    """The smallest round even number that `most` fits under."""
    if most <= 2:
        return 2
    power: int = pow(10, int(math.log10(most)))
    return next(
        step * power
        for step in (1, 2, 4, 6, 8, 10)
        if step * power >= most and step * power % 2 == 0
    )
