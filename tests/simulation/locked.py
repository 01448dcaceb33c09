"""Somebody else writes to the database for long: a backup, or a person with a shell of SQLite's.

No process of ours can write meanwhile; a statement waits for half a minute and then fails.
"""

import asyncio
import sqlite3
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING

from tests.simulation import machine
from tests.simulation.episodes import Episode
from tests.simulation.net import Fault, Request

if TYPE_CHECKING:
    from tests.simulation.second_acts import SecondActs
    from tests.simulation.universe import Universe

LOCKED = "locked"
HELD_FOR = (5.0, 25.0, 45.0, 100.0)
"""Seconds, around those that a statement waits, and those that a lease lasts."""
TIMES = 3


async def locks(universe: "Universe", acts: "SecondActs", rng: Random) -> None:
    """The lock is taken just as Makini is asked for a new pair, which kills the one before it."""
    for _ in range(TIMES):
        await asyncio.sleep(rng.uniform(60.0, 300.0) * universe.plan.pace)
        connection = acts.one()
        if connection is None or not universe.faulty(LOCKED):
            return
        universe.say(f"locked: the access token of {connection.key} ends early")
        universe.truth.end_tokens(connection, universe.now())
        if await _is_renewed(universe, within=1500.0 * universe.plan.pace):
            await _hold(universe, rng.choice(HELD_FOR))


async def _is_renewed(universe: "Universe", *, within: float) -> bool:
    """Wait until a token pair is to be had; False where none is, for long."""
    asked = asyncio.Event()

    def is_noted(request: Request) -> bool:
        if request.path == "/link/token" and b"client_credentials" not in request.body:
            asked.set()
        return False  # and nothing happens to it

    now = universe.now()
    universe.people.episodes.begin(
        Episode(now + timedelta(seconds=within), is_noted, Fault("none"), "noted alone", now, "")
    )
    try:
        async with asyncio.timeout(within):
            await asked.wait()
    except TimeoutError:
        return False
    return universe.faulty(LOCKED)


async def _hold(universe: "Universe", seconds: float) -> None:
    outsider = machine.observe(universe.home / "linekeeper.db", timeout=0, isolation_level=None)
    try:
        while True:
            try:
                outsider.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:  # one of ours writes
                await asyncio.sleep(0.01)
            else:
                break
        universe.say(f"locked: somebody else writes for {seconds:g} s")
        universe.acted.add(LOCKED)
        await asyncio.sleep(seconds)
        outsider.execute("ROLLBACK")
    finally:
        outsider.close()
    universe.say("locked: the database can be written again")
