"""How large a universe is, by its seed: most are small, some are a day's work of a dozen systems.

What a universe costs are its runs. So a longer one has slower schedules, its trouble comes in two
spells, and between them hours pass in which nothing new goes wrong.
"""

from dataclasses import replace
from random import Random

from tests.simulation.machine import seed_of
from tests.simulation.plan import Plan

MEDIUM = 0.35
LARGE = 0.1
BRIEF_HOURS = 0.5
"""How long there is trouble in those of `make test`."""


def drawn(plan: Plan) -> Plan:
    """`plan` in the size that its seed draws."""
    rng = Random(seed_of(plan.seed, "size"))
    size = rng.random()
    if size < LARGE:
        return replace(plan, connections=rng.randint(8, 12), lull=rng.choice((3.0, 4.5)), pace=4.0)
    if size < LARGE + MEDIUM:
        return replace(plan, connections=rng.randint(4, 9), lull=rng.choice((1.0, 2.0)), pace=2.0)
    return replace(plan, connections=rng.randint(3, 6))


def brief(plan: Plan) -> Plan:
    """`plan` as small as those of `make test` are, whatever its seed draws."""
    return replace(plan, hours=BRIEF_HOURS)
