"""What the graph of a run shows of work that is not a task of Prefect's. Pure.

Prefect draws a graph to the scale of its run's age, so that in a run of a few minutes days lie off
the picture: there they are drawn closer (`span`), and the nodes' messages say the dates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

AGES_SHOWN = 12
"""How many times a run's age its graph may reach beyond now, or before its start, and be read."""
YOUNGEST = timedelta(seconds=15)
AGES_UNTIL_NEXT = 4
"""A graph that is not to scale is drawn again when the run is so many times as old."""
LATEST = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Node:
    """A step as it is to be shown. Times are aware."""

    key: str
    """What it is called within its run."""
    title: str
    needs: tuple[str, ...]
    state: Literal["SCHEDULED", "RUNNING", "PAUSED", "COMPLETED", "CANCELLED"]
    """The type of its state in Prefect; `name` is what people read."""
    name: str
    message: str
    start: datetime
    """When the step began; where it is not open yet, when it is likely to begin."""
    end: datetime | None
    """None while it is open."""


def draw_again_at(*, began: datetime, now: datetime) -> datetime:
    """When a graph that is not to scale yet is to be drawn again; never before `now`.

    A run that began later than now was begun by a clock that was ahead, and has no age until then.
    """
    if began > now:
        return now + max(min(began - now, LATEST), YOUNGEST)
    return now + (now - began) * (AGES_UNTIL_NEXT - 1)


def span(nodes: Sequence[Node], *, began: datetime, now: datetime) -> tuple[list[Node], bool]:
    """The nodes as the graph of a run of this age can show them, and whether they are to scale.

    What lies after `now` is drawn closer to it, and what lies before the run's beginning closer to
    that, until the run is old enough. The order stays, and so does what lies between.
    """
    room = max(now - began, YOUNGEST) * AGES_SHOWN
    last = max((node.end or node.start for node in nodes), default=now)
    first = min((node.start for node in nodes), default=began)
    scale_after = min(room / (last - now), 1.0) if last > now else 1.0
    scale_before = min(room / (began - first), 1.0) if first < began else 1.0

    def squeezed(at: datetime) -> datetime:
        if at > now:
            return now + (at - now) * scale_after
        if at < began:
            return began - (began - at) * scale_before
        return at

    drawn = [
        replace(
            node, start=squeezed(node.start), end=None if node.end is None else squeezed(node.end)
        )
        for node in nodes
    ]
    return drawn, scale_after == 1.0 and scale_before == 1.0
