"""Many logins of one product are lost one after the other, as when its vendor ends passwords."""

import asyncio
from collections import Counter
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from linekeeper.config import HealthPolicy

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

STORM = 0.25
"""The share of the universes with the latest liberties that have one."""


async def storm(universe: "Universe", rng: Random) -> None:
    """The product with the most customers lets go of all their logins; some work again later.

    Such a thing is one incident here from two connections on.
    """
    policy = HealthPolicy(root_cause_members=2, root_cause_together=2)
    universe.prefect.blocks = replace(universe.prefect.blocks, policy=policy)
    await asyncio.sleep(rng.uniform(300.0, 1200.0))
    living = [each for each in universe.truth.living() if each.login_ok]
    if not living or not universe.faulty("storm"):
        return
    counts = Counter(each.provider for each in living)
    provider = max(counts, key=lambda name: (counts[name], name))
    hit = [each for each in living if each.provider == provider]
    universe.say(f"trouble: {len(hit)} customers of {provider} lose their logins")
    for connection in hit:
        if not connection.deleted:
            universe.truth.lose_login(connection, universe.now())
        await asyncio.sleep(rng.uniform(10.0, 240.0))
    for connection in hit:
        await asyncio.sleep(rng.uniform(100.0, 1500.0))
        if universe.calm:
            return
        if not (connection.deleted or connection.login_ok) and rng.random() < 0.5:
            universe.say(f"{connection.key}: the old password works again")
            universe.truth.restore_login(connection, universe.now())
