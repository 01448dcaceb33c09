"""Webhooks whose names nobody knows: of an entity that isn't read, or of nothing that matters."""

import asyncio
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.machine import seed_of

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

EVENTS = (
    ("webhook.test", []),
    ("billing.credits_low", []),
    ("integration.renamed", []),
    ("vendors.updated", ["0900000000012345"]),
)
UNKNOWN = frozenset(event for event, keys in EVENTS if not keys)
"""The name itself says nothing: such an event is kept for an operator."""
SECONDS = 900.0


async def new_events(universe: "Universe") -> None:
    """Makini sends one of them now and then, about any connection."""
    rng = Random(seed_of(universe.plan.seed, "new events"))
    while True:
        await asyncio.sleep(rng.expovariate(1 / (SECONDS * universe.plan.pace)))
        event, keys = rng.choice(EVENTS)
        if living := universe.truth.living():
            universe.truth.notify((rng.choice(living).key, event, keys))
