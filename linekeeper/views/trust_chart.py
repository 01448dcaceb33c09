"""What the webhooks announced and what they missed, as a picture. Pure; times are aware UTC.

Self-contained SVG on its own background, light or dark as the reader prefers; nothing in it links
or runs, and the same input gives the same bytes.
"""

from collections.abc import Sequence
from datetime import timedelta
from xml.sax.saxutils import escape

from linekeeper.views.trust_queries import RunPoint

WIDTH, LEFT, RIGHT = 960, 56, 24
TOP, TALL = 58, 150
_PLOT = WIDTH - LEFT - RIGHT
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1f2937}.s{font-size:11px;fill:#4b5563}"
    ".t{font-weight:600}.bg{fill:#fff;stroke:#d1d5db}.g{stroke:#e5e7eb}.x{stroke:#9ca3af}"
    ".a{fill:#22a35a}.m{fill:#d33a3a}.l{fill:#e0a100}.o{fill:#8b93a1}"
    "@media(prefers-color-scheme:dark){text{fill:#e5e7eb}.s{fill:#aab1bd}"
    ".bg{fill:#161b24;stroke:#343c4a}.g{stroke:#272e3a}.x{stroke:#5b6575}"
    ".a{fill:#3fbf74}.m{fill:#f26d6d}.l{fill:#f5c542}.o{fill:#6b7483}}"
)
_KINDS = (
    ("a", "announced in time"),
    ("l", "announced late"),
    ("o", "caught up after our own outage"),
    ("m", "lost"),
)


def changes_over_time(points: Sequence[RunPoint], step: timedelta) -> str:
    """Bars of the changes counted in each step: in time, late, caught up, lost."""
    height = TOP + TALL + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img"><title>Changes the webhooks announced and '
        f"lost</title><style>{_STYLE}</style>"
        f'<rect class="bg" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>'
        f'<text class="t" x="{LEFT}" y="24">Changes at the sources</text>'
        f'<text class="s" x="{WIDTH - RIGHT}" y="24" text-anchor="end">times in UTC</text>'
    ]
    x = LEFT
    for kind, words in _KINDS:
        parts.append(
            f'<rect class="{kind}" x="{x}" y="34" width="11" height="11" rx="2"/>'
            f'<text class="s" x="{x + 16}" y="44">{escape(words)}</text>'
        )
        x += 40 + 6 * len(words)
    bars = [_split(point) for point in points]
    most = max((sum(bar) for bar in bars), default=0)
    ceiling = _ceiling(most)
    for n in range(3):
        line = TOP + TALL - TALL * n // 2
        parts.append(
            f'<path class="{"x" if n == 0 else "g"}" d="M{LEFT} {line}h{_PLOT}"/>'
            f'<text class="s" x="{LEFT - 8}" y="{line + 4}" text-anchor="end">'
            f"{ceiling * n // 2:,}</text>"
        )
    width = _PLOT / max(len(points), 24)
    marks = max(1, -(-len(points) // 8))
    for n, (point, bar) in enumerate(zip(points, bars, strict=True)):
        left, y = LEFT + n * width, float(TOP + TALL)
        for (kind, _), number in zip(_KINDS, bar, strict=True):
            if number:
                high = max(number * TALL / ceiling, 2.0)
                y -= high
                parts.append(
                    f'<rect class="{kind}" x="{left + 1:.1f}" y="{y:.1f}" '
                    f'width="{max(width - 2, 1):.1f}" height="{high:.1f}"/>'
                )
        if n % marks == 0:
            at = f"{point.at:%m-%d}" if step >= timedelta(days=1) else f"{point.at:%H:%M}"
            parts.append(f'<text class="s" x="{left:.1f}" y="{TOP + TALL + 18}">{at}</text>')
            if n == 0 or point.at.date() != points[n - marks].at.date():
                parts.append(
                    f'<text class="s" x="{left:.1f}" y="{TOP + TALL + 34}">{point.at:%m-%d}</text>'
                )
    if not most:
        parts.append(
            f'<text class="s" x="{LEFT + _PLOT // 2}" y="{TOP + TALL // 2}" text-anchor="middle">'
            "nothing changed yet</text>"
        )
    parts.append("</svg>")
    return "".join(parts)


def _split(point: RunPoint) -> tuple[int, int, int, int]:
    """As `_KINDS`: each change once."""
    return point.webhooks_seen, point.late, point.caught_up, point.lost


def _ceiling(most: int) -> int:
    """The smallest even round number that `most` fits under."""
    ceiling = 2
    while ceiling < most:
        ceiling = next(
            (ceiling * step // 2 for step in (4, 10) if ceiling * step // 2 >= most), ceiling * 10
        )
    return ceiling
