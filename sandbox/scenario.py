"""Scenario `demo`: a day in fifteen minutes, then quiet trouble for ever.

A day has two lost logins, a system that is down, one that keeps falling over, an outage of a whole
provider, and a night in which more goes wrong.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from .fleet import Connection, seeded
from .world import World

OUTAGE_MEMBERS = 5
TRICKLE_SECONDS = 4.0
NIGHT_FROM, NIGHT_SECONDS = 480.0, 240.0
"""The night of the day begins within a minute from there, and lasts so long."""
DAY_SECONDS = 1_800.0
UNSEEN_SECONDS = 120.0
"""The day begins when somebody first looks at the fleet, or after so long."""
_LOOKS = 600
_LISTING = ("GET", "/api/system/connections")


@dataclass(slots=True, order=True)
class Step:
    """Something that happens `at` scripted seconds after the start."""

    at: float
    does: Callable[[], None] = field(compare=False)


_Plan = tuple[float, Callable[[Connection], None], Connection]


def script(world: World) -> Iterator[Step]:
    """The day, then a slower cycle of trouble without end, in order of time."""
    chance = seeded(world.settings.seed, "demo")
    yield from _day(world, chance)
    start = DAY_SECONDS
    while True:
        yield from _cycle(world, chance, start)
        start += DAY_SECONDS


async def play(world: World) -> None:
    """Play the script and let records change, until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_trickle(world))
        group.create_task(_follow(world))


async def _follow(world: World) -> None:
    for _ in range(_LOOKS):
        if world.calls[_LISTING]:
            break
        await asyncio.sleep(UNSEEN_SECONDS / _LOOKS / world.settings.demo_speed)
    played = 0.0
    for step in script(world):
        await asyncio.sleep((step.at - played) / world.settings.demo_speed)
        played = step.at
        step.does()


async def _trickle(world: World) -> None:
    chance = seeded(world.settings.seed, "trickle")
    while True:
        await asyncio.sleep(chance.uniform(0.5, 1.5) * TRICKLE_SECONDS / world.settings.demo_speed)
        if world.connections:
            connection = chance.choice(list(world.connections.values()))
            entities = list(world.records.of(connection))
            world.change_records(
                connection,
                chance.choice(entities[:2]),
                make=int(chance.random() < 0.3),
                change=chance.randint(1, 3),
            )


def _day(world: World, chance: random.Random) -> list[Step]:
    """What an operator meets in a day. Falls take as long as three sweeps need to see them."""
    healthy = [c for c in world.connections.values() if c.readable]
    outage = _outage(healthy, chance)
    alone = [c for c in healthy if c not in outage]
    chosen = iter(chance.sample(alone, len(alone)))
    plan: list[_Plan] = []

    def happens(does: Callable[[Connection], None], *times: float) -> None:
        """To the next connection: `does` at the first time, undone at the second, and so on."""
        connection = next(chosen, None)
        login = does == world.change_credentials
        undone = world.restore_credentials if login else world.come_online
        if connection is not None:
            plan.extend((at, (does, undone)[n % 2], connection) for n, at in enumerate(times))

    happens(world.change_credentials, 45, 130)
    happens(world.go_offline, 90, 230)
    happens(world.go_offline, 20, 150, 175, 305, 330, 460)  # it keeps falling over
    happens(world.change_credentials, 300, 1_500)  # time to try a reconnect by hand
    night = NIGHT_FROM + 60
    happens(world.go_offline, night + 2, night + 240)
    happens(world.change_credentials, night + 20, night + 300)
    for number, member in enumerate(outage):
        plan.append((230 + number, world.go_offline, member))
        plan.append((370 + 2 * number, world.come_online, member))
    return _steps(world, plan)


def _cycle(world: World, chance: random.Random, start: float) -> list[Step]:
    """One login lost and found again, one system down and up, one provider's outage."""
    healthy = [c for c in world.connections.values() if c.readable]
    if len(healthy) < 2:
        return [Step(start + 60, _nothing)]
    broken, down = chance.sample(healthy, 2)
    plan: list[_Plan] = [
        (start + 60, world.change_credentials, broken),
        (start + 180, world.go_offline, down),
        (start + 270, world.restore_credentials, broken),
        (start + 540, world.come_online, down),
    ]
    for number, member in enumerate(_outage(healthy, chance)):
        plan.append((start + 900 + 3 * number, world.go_offline, member))
        plan.append((start + 1_350 + 6 * number, world.come_online, member))
    return _steps(world, plan)


def _steps(world: World, plan: list[_Plan]) -> list[Step]:
    return sorted(
        Step(at, partial(_if_there, world, connection, does)) for at, does, connection in plan
    )


def _outage(healthy: list[Connection], chance: random.Random) -> list[Connection]:
    """All connections of a provider that has enough of them; none if no provider has."""
    by_provider: dict[str, list[Connection]] = {}
    for connection in healthy:
        by_provider.setdefault(connection.provider.slug, []).append(connection)
    large = [members for members in by_provider.values() if len(members) >= OUTAGE_MEMBERS]
    return min(large, key=lambda members: (len(members), chance.random())) if large else []


def _nothing() -> None:
    """A fleet too small or too broken for the script waits for better times."""


def _if_there(world: World, connection: Connection, does: Callable[[Connection], None]) -> None:
    breaks = does in (world.change_credentials, world.go_offline)
    if connection.key in world.connections and not (breaks and world.calm):
        does(connection)
