"""The thirty universes of `make test`: few of many, and all that those have is in some of them.

Each kind of trouble is in four of them at least, and whatever Makini, the calendar and the app may
be like is in two. Of the pairs of troubles that come together in any universe, nine in ten do in
one of these (`test_chosen.py`). Of those that have as much, they are cheap ones.
"""

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

from tests.simulation.faults import Trouble
from tests.simulation.sizes import brief
from tests.simulation.universe import Plan, Universe

POOL = (*range(1, 301), *range(11_000, 11_080), *range(13_000, 13_120))
"""Those they were chosen from; Makini takes more liberties in the later ones."""
CHOSEN = (
    8, 19, 31, 35, 54, 61, 65, 158, 208, 271, 11010, 11013, 11026, 11047, 11054, 13001, 13021,
    13027, 13051, 13055, 13058, 13059, 13066, 13085, 13091, 13093, 13102, 13105, 13112, 13119,
)  # fmt: skip
REPLAYED = 8
"""One of the shortest of them."""


def traits_of(seed: int) -> set[tuple[str, str]]:
    """What is drawn for a universe before it begins: its trouble, its Makini, its calendar."""
    universe = Universe(brief(Plan(seed)), Path())
    universe.loop.close()
    drawn = {("trouble", kind) for kind in Trouble(universe).kinds}
    drawn |= {(name, str(value)) for name, value in vars(universe.personality).items()}
    return drawn | {("begins", str(universe.begins)), ("entities", str(len(universe.entities)))}


def pairs_in(traits: Iterable[set[tuple[str, str]]]) -> set[tuple[str, str]]:
    """The pairs of troubles that come together in one of the universes with these traits."""
    troubles = (sorted(kind for what, kind in each if what == "trouble") for each in traits)
    return {pair for kinds in troubles for pair in combinations(kinds, 2)}
