"""Magic links: connections that are prepared at Makini, and pending until a customer finishes."""

import asyncio
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.founding import metadata_of
from tests.simulation.machine import seed_of
from tests.simulation.makini.connection import Connection

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

EVERY = 900.0
FIRST_NUMBER = 100
"""No customer from before has it."""
FINISHED = 0.5
GIVEN_UP = 0.25
"""The rest stays pending to the end."""


async def invitations(universe: "Universe") -> None:
    """Somebody prepares a connection from time to time."""
    rng = Random(seed_of(universe.plan.seed, "magic links"))
    number = FIRST_NUMBER
    while True:
        await asyncio.sleep(rng.expovariate(1 / (EVERY * universe.plan.pace)))
        if universe.calm:
            return
        name = f"Company {number}"
        connection = universe.truth.connect(
            name=name, email=f"it@company{number}.example", company=name,
            provider=rng.choice(("sap-ecc", "maximo", "emaint", "upkeep")), now=universe.now(),
            offers=universe.entities, records=rng.choice((0, 1, 4)),
            metadata=metadata_of(universe, number),
        )  # fmt: skip
        universe.truth.invite(connection)
        universe.say(f"magic link: {connection.key} is pending")
        universe.spawn(_finish(universe, rng, connection))
        number += 1


async def _finish(universe: "Universe", rng: Random, connection: Connection) -> None:
    chance = rng.random()
    await asyncio.sleep(rng.choice((5.0, 400.0, 2400.0)))
    if universe.calm or chance > FINISHED + GIVEN_UP:
        return
    if chance > FINISHED:
        universe.say(f"magic link: {connection.key} is given up")
        universe.truth.pending.remove(connection)
        return
    universe.say(f"magic link: {connection.key} is finished")
    universe.truth.finish(connection, universe.now())
