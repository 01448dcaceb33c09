"""Scenario `demo`: a believable first ten minutes, then quiet trouble for ever."""

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


@dataclass(slots=True, order=True)
class Step:
    """Something that happens `at` scripted seconds after the start."""

    at: float
    does: Callable[[], None] = field(compare=False)


def script(world: World) -> Iterator[Step]:
    """The first ten minutes, then a cycle of the same without end, in order of time."""
    chance = seeded(world.settings.seed, "demo")
    yield from _cycle(world, chance, 0.0, first=True)
    start = 600.0
    while True:
        yield from _cycle(world, chance, start, first=False)
        start += 1_800.0


async def play(world: World) -> None:
    """Play the script and let records change, until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_trickle(world))
        group.create_task(_follow(world))


async def _follow(world: World) -> None:
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


def _cycle(world: World, chance: random.Random, start: float, *, first: bool) -> list[Step]:
    """One login lost and found again, one system down and up, one provider's outage."""
    pace = 1.0 if first else 3.0
    healthy = [c for c in world.connections.values() if c.readable]
    if len(healthy) < 2:
        return [Step(start + 60 * pace, _nothing)]
    broken, down = chance.sample(healthy, 2)
    plan: list[tuple[float, Callable[[Connection], None], Connection]] = [
        (20, world.change_credentials, broken),
        (60, world.go_offline, down),
        (90, world.restore_credentials, broken),
        (180, world.come_online, down),
    ]
    for number, member in enumerate(_outage(healthy, chance)):
        plan.append((300 + number, world.go_offline, member))
        plan.append((450 + 2 * number, world.come_online, member))
    return sorted(
        Step(start + at * pace, partial(_if_there, world, connection, does))
        for at, does, connection in plan
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
    if connection.key in world.connections:
        does(connection)
