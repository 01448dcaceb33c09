"""How one universe is to be, and what became of it."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.makini.webhooks import Post

QUIET_FROM = timedelta(minutes=25)
"""From the beginning, where a universe has quiet hours."""


@dataclass
class Plan:
    """How one universe is to be: all drawn from the seed, so that a smaller one can be tried."""

    seed: int
    hours: float = 0.75
    connections: int = 4
    faults: bool = True
    kinds: frozenset[str] = frozenset()  # empty: those that the seed draws
    personality: dict[str, Any] = field(default_factory=dict)  # in place of what it draws
    sick: str = ""  # the sickness, where there is one
    lull: float = 0.0  # hours in the middle in which nothing new goes wrong
    pace: float = 1.0  # schedules, changes and the last calm are so much slower, for long lives


@dataclass
class Delivered:
    """A webhook of the model that was acknowledged: what we answered for."""

    post: Post
    at: datetime
    answer: str
    identity: str


@dataclass
class Verdict:
    """What the oracle says."""

    seed: int
    broken: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    """Minutes of availability that are not as it was; some few may be so."""
    trace: list[str] = field(default_factory=list)
    digest: str = ""
    kinds: frozenset[str] = frozenset()
    """The trouble that there was."""
    acts: dict[str, bool] = field(default_factory=dict)
    """The second acts that were to be, and whether they came about."""
    figures: dict[str, float] = field(default_factory=dict)
