"""Health over time as charts. Pure; times are aware UTC."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from linekeeper.charts import (
    BLUE,
    GREEN,
    GREY,
    LEFT,
    PALE,
    PLOT,
    RED,
    VIOLET,
    YELLOW,
    Colour,
    grid_line,
    legend,
    number,
    open_chart,
    safe,
    small,
    title,
)
from linekeeper.health.evidence import Health
from linekeeper.text import LISTED, health_name, is_only_listed

_STEPS = (300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
"""Seconds between two marks of the clock."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a health is shown everywhere."""

    sign: str
    words: str
    colour: Colour


LOOKS: Mapping[str, Look] = {
    Health.healthy: Look("🟢", health_name(Health.healthy), GREEN),
    Health.degraded: Look("🟡", health_name(Health.degraded), YELLOW),
    Health.unreachable: Look("🔴", health_name(Health.unreachable), RED),
    Health.reauthorization_required: Look(
        "🔑", health_name(Health.reauthorization_required), VIOLET
    ),
    Health.inactive: Look("⚪", health_name(Health.inactive), GREY),
    Health.unknown: Look("❔", health_name(Health.unknown), BLUE),
}
"""How each health looks, in the order of legends and counts."""
ONLY_LISTED = Look("📋", LISTED, PALE)
"""How those look of which nothing is known but that Makini's list calls them active."""

TROUBLES = (
    Health.reauthorization_required,
    Health.unreachable,
    Health.degraded,
    Health.inactive,
    Health.unknown,
)
"""The troubles as they are stacked, from the ground up."""

SHORTEST_STRIP = timedelta(minutes=10)
"""What a connection's strip spans at least, also of one that has just become known."""

_STYLE, _STYLE_DARK = ".in{fill:#fff;font-weight:600}.dark{fill:#10141b}", ".in{fill:#10141b}"


def look(health: str) -> Look:
    """How `health` is shown; a value nobody knows is shown as unknown."""
    return LOOKS[_known(health)]


def look_of(health: str, evidence: str | None) -> Look:
    """How one connection is shown: one that only Makini's list calls well has no green light."""
    return ONLY_LISTED if is_only_listed(health, evidence) else look(health)


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time from `start`, as long as to the next bucket, and the number per health."""

    start: datetime
    counts: Mapping[str, int]

    @property
    def troubles(self) -> int:
        """How many were not healthy."""
        return sum(count for health, count in self.counts.items() if health != Health.healthy)


@dataclass(frozen=True, slots=True)
class Turned:
    """One connection's health changed."""

    at: datetime
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A connection we learned of: when, and the health it was first given."""

    at: datetime
    health: str


BUCKETS = 96


def step_for(oldest: datetime | None, now: datetime) -> timedelta:
    """How long each of the `BUCKETS` is: 15 min (a day in all), less for a fleet younger than that.

    `oldest` is when the first connection was adopted.
    """
    age = now - oldest if oldest is not None else timedelta()
    for minutes in (1, 5):
        if age < timedelta(minutes=minutes) * (BUCKETS - 1):
            return timedelta(minutes=minutes)
    return timedelta(minutes=15)


def first_start(step: timedelta, now: datetime) -> datetime:
    """Where the first bucket starts; the last one holds `now`."""
    seconds = step.total_seconds()
    return datetime.fromtimestamp(now.timestamp() // seconds * seconds, UTC) - step * (BUCKETS - 1)


def replay(
    counts: Mapping[str, int],
    changes: Iterable[Turned],
    newcomers: Iterable[Newcomer],
    *,
    step: timedelta,
    now: datetime,
) -> list[Bar]:
    """What the fleet was like over time, by undoing `changes` and `newcomers` from `counts`, now.

    Each bucket shows its worst moment, the one with most in trouble, so that a short outage isn't
    lost between two samples. What happened at one instant happened at once.
    """
    undo: dict[datetime, Counter[str]] = {}
    for change in changes:
        shift = undo.setdefault(change.at, Counter())
        shift[change.after] -= 1
        shift[change.before] += 1
    for newcomer in newcomers:
        undo.setdefault(newcomer.at, Counter())[newcomer.health] -= 1
    moments = sorted(undo)
    state = Counter(counts)
    first = first_start(step, now)
    buckets = []
    for n in reversed(range(BUCKETS)):
        start = first + step * n
        worst = dict(state)
        while moments and moments[-1] >= start:
            at = moments.pop()
            state.update(undo[at])
            if at > start and _badness(state) > _badness(worst):
                worst = dict(state)
        buckets.append(Bar(start, {name: max(worst.get(name, 0), 0) for name in LOOKS}))
    return buckets[::-1]


def _badness(counts: Mapping[str, int]) -> tuple[int, int]:
    unknown = counts.get(Health.unknown, 0)
    return sum(counts.values()) - counts.get(Health.healthy, 0) - unknown, unknown


def states_over_time(buckets: Sequence[Bar], listed: int = 0) -> str:
    """How many connections were in which health: those not healthy above, the healthy below.

    The two have scales of their own, so that three in trouble are seen among ten thousand. Of
    `listed` of the healthy ones nothing but Makini's list says so now. How many those were before
    is not known, so that then none of them is drawn as healthy.
    """
    most = max((bucket.troubles for bucket in buckets), default=0)
    top, tall, short = 54, 150 if most else 50, 40
    below = top + tall + 32
    height = below + short + 46
    healthy = max((bucket.counts.get(Health.healthy, 0) for bucket in buckets), default=0)
    parts = [
        _open(height, "Connections by health over time"),
        title("Not healthy"),
        _legend(LEFT + 92, 24, TROUBLES),
        _grid(top, tall, most),
    ]
    parts += _stacks(buckets, TROUBLES, top + tall, tall, _ceiling(most))
    if not most:
        parts.append(small(LEFT + PLOT / 2, top + tall / 2, "nothing in trouble", anchor="middle"))
    words = f"Healthy, or {LISTED} (now {listed:,} only listed)" if listed else "Healthy"
    parts.append(title(words, y=below - 10))
    parts.append(_grid(below, short, healthy, lines=1))
    stacks = _stacks(buckets, [Health.healthy], below + short, short, _ceiling(healthy))
    parts += [_only_listed(stack) for stack in stacks] if listed else stacks
    if len(buckets) > 1:
        end = buckets[-1].start + (buckets[-1].start - buckets[-2].start)
        parts.append(_clock(buckets[0].start, end, below + short))
    parts.append("</svg>")
    return "".join(parts)


def timeline(
    changes: Sequence[Turned],
    now: datetime,
    health: str = Health.unknown,
    *,
    since: datetime | None = None,
    only_listed: bool = False,
) -> str:
    """One connection's health as a strip up to `now`: the last week, or less if it is younger.

    `changes` oldest first; `health` is what it is drawn as if there are none. `since` is the first
    thing known of it: nothing is drawn of the time before. Where it is `only_listed`, nothing
    is drawn as healthy.
    """
    ordered = sorted((change for change in changes if change.at <= now), key=lambda item: item.at)
    known = [*([since] if since else []), *(change.at for change in ordered[:1])]
    oldest = min(known, default=now - timedelta(hours=1))
    start = max(min(oldest, now - SHORTEST_STRIP), now - timedelta(days=7))
    span = (now - start).total_seconds()
    begins = max(oldest, start)
    spans = [(begins, ordered[0].before if ordered else health)]
    for change in ordered:
        if change.at <= begins:
            spans = []
        spans.append((max(change.at, begins), change.after))
    y, tall, height = 42, 30, 118
    parts = [
        _open(height, "Health of this connection over time"),
        title("Health"),
        _legend(
            LEFT + 60,
            24,
            [name for name in LOOKS if name in {_known(state) for _, state in spans}],
            only_listed=only_listed,
        ),
    ]
    ends = [*(at for at, _ in spans[1:]), now]
    for (at, state), until in zip(spans, ends, strict=True):
        width = max(PLOT * (until - at).total_seconds() / span, 2.0)
        x = min(LEFT + PLOT * (at - start).total_seconds() / span, LEFT + PLOT - width)
        is_listed = only_listed and _known(state) == Health.healthy
        wide, words = number(width), (ONLY_LISTED if is_listed else look(state)).words
        path = f'<path class="c{_kind(state)}" d="M{number(x)} {y}h{wide}v{tall}h-{wide}z"/>'
        parts.append(_only_listed(path) if is_listed else path)
        if width > 7 * len(words) + 12:
            ink = "in dark" if is_listed or _known(state) == Health.degraded else "in"
            parts.append(
                f'<text class="{ink}" x="{number(x + 8)}" y="{y + 20}">{safe(words)}</text>'
            )
    parts.append(_clock(start, now, y + tall))
    parts.append("</svg>")
    return "".join(parts)


def _only_listed(shape: str) -> str:
    """`shape`, which is of the class of the healthy, as of those that are only listed."""
    healthy, listed = f'class="c{_kind(Health.healthy)}"', f'class="c{len(LOOKS)}"'
    return shape.replace(healthy, listed)


def _open(height: int, name: str) -> str:
    colours = [look.colour for look in (*LOOKS.values(), ONLY_LISTED)]
    return open_chart(height, name, colours=colours, more=_STYLE, more_dark=_STYLE_DARK)


def _known(health: str) -> str:
    return health if health in LOOKS else Health.unknown


def _kind(health: str) -> int:
    return list(LOOKS).index(_known(health))


def _stacks(
    buckets: Sequence[Bar], kinds: Sequence[str], ground: int, tall: int, ceiling: int
) -> Iterable[str]:
    """One path a health. What is there is at least 3 pixels tall, however many the others are."""
    width = PLOT / max(len(buckets), 1)
    gap = 1 if width >= 4 else 0
    bars: dict[str, list[str]] = {kind: [] for kind in kinds}
    for n, bucket in enumerate(buckets):
        wanted = {kind: bucket.counts.get(kind, 0) * tall / ceiling for kind in kinds}
        heights = {kind: max(value, 3.0) for kind, value in wanted.items() if value > 0}
        shrink = min(1.0, tall / sum(heights.values())) if heights else 1.0
        y = float(ground)
        for kind, value in heights.items():
            high = value * shrink
            y -= high
            x = LEFT + n * width
            wide = number(width - gap)
            bars[kind].append(f"M{number(x)} {number(y)}h{wide}v{number(high)}h-{wide}z")
    return [
        f'<path class="c{_kind(kind)}" d="{"".join(path)}"/>' for kind, path in bars.items() if path
    ]


def _grid(top: int, tall: int, most: int, lines: int = 3) -> str:
    ceiling = _ceiling(most)
    count = min(lines, ceiling)
    parts = []
    for n in range(count + 1):
        if ceiling * n % count:
            continue
        y = top + tall - tall * n // count
        parts.append(grid_line(y, f"{ceiling * n // count:,}", is_axis=n == 0))
    return "".join(parts)


def _ceiling(most: int) -> int:
    """The smallest round number that three lines divide and that `most` fits under."""
    if most <= 3:
        return max(most, 1)
    power = math.pow(10, int(math.log10(most)))
    for step in (1.2, 1.5, 1.8, 2.1, 2.4, 3, 4.5, 6, 9, 12):
        ceiling = round(step * power)
        if ceiling >= most and ceiling % 3 == 0:
            return ceiling
    return most


def _clock(start: datetime, end: datetime, y: int) -> str:
    """Marks at round times, at most nine of them; the date under the first and each midnight."""
    span = (end - start).total_seconds()
    step = next((step for step in _STEPS if span / step <= 9), _STEPS[-1])
    at = datetime.fromtimestamp(math.ceil(start.timestamp() / step) * step, UTC)
    parts = []
    day = None
    while at <= end:
        x = LEFT + PLOT * (at - start).total_seconds() / span
        parts.append(f'<path class="x" d="M{number(x)} {y}v5"/>')
        parts.append(small(x, y + 18, f"{at:%H:%M}", anchor="middle"))
        if at.date() != day:
            parts.append(small(x, y + 33, f"{at:%m-%d}", anchor="middle"))
            day = at.date()
        at += timedelta(seconds=step)
    return "".join(parts)


def _legend(x: int, y: int, kinds: Iterable[str], *, only_listed: bool = False) -> str:
    names = {_kind(kind): look(kind).words for kind in kinds}
    if only_listed and names.pop(_kind(Health.healthy), ""):
        names = {len(LOOKS): LISTED, **names}
    return legend(x, y, names.values(), kinds=names)
