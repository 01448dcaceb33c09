"""The sixty universes of `make test`: few of many, and all that those have is in some of them.

Each kind of trouble is in four of them at least, and whatever Makini, the calendar and the app may
be like is in two (`test_chosen.py`); of those that have it, they are the cheapest.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.simulation.faults import Trouble
from tests.simulation.plan import Plan
from tests.simulation.sizes import brief
from tests.simulation.universe import Universe

POOL = (*range(1, 301), *range(11_000, 11_080), *range(13_000, 13_120))
"""Those they were chosen from; Makini takes more liberties in the later ones."""
CHOSEN = (
    2, 8, 9, 15, 19, 31, 35, 40, 54, 61, 65, 71, 105, 108, 109, 156, 158, 174, 207, 208, 223,
    224, 230, 263, 270, 271, 289, 293, 11000, 11009, 11010, 11012, 11013, 11014, 11026, 11043,
    11047, 11054, 11060, 11069, 13001, 13021, 13025, 13027, 13030, 13032, 13051, 13055, 13058,
    13059, 13066, 13085, 13086, 13091, 13093, 13102, 13105, 13112, 13117, 13119,
)  # fmt: skip
REPLAYED = 2
"""One of the shortest of those in which runs and processes remember what they have read."""


def traits_of(seed: int) -> set[tuple[str, str]]:
    """What is drawn for a universe before it begins: its trouble, its Makini, its calendar."""
    universe = Universe(brief(Plan(seed)), Path())
    universe.loop.close()
    drawn = {("trouble", kind) for kind in Trouble(universe).kinds}
    drawn |= {(name, str(value)) for name, value in vars(universe.personality).items()}
    return drawn | {("begins", str(universe.begins)), ("entities", str(len(universe.entities)))}


def counted(seeds: Sequence[int]) -> Counter[tuple[str, str]]:
    """In how many of `seeds` each trait is."""
    return Counter(trait for seed in seeds for trait in traits_of(seed))
