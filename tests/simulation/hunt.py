"""`--mutants`: each known defect planted alone in a process of its own, hunted by universes."""

import logging
import os
import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.simulation.mutants import MUTANTS
from tests.simulation.planting import Mutant

CPU_SECONDS = 40.0


@dataclass(frozen=True)
class Found:
    """How a hunt ended."""

    mutant: str
    seeds: int
    seconds: float
    broken: Sequence[str]
    trouble: str = ""
    """Why it could not be planted."""


def hunt(mutant: Mutant, *, seconds: float = CPU_SECONDS, first: int = 1) -> Found:
    """Plant `mutant` in this process, and live through universes until one breaks."""
    from tests.simulation.run import simulate
    from tests.simulation.universe import Plan

    logging.disable(logging.CRITICAL)
    try:
        mutant.plant()
    except Exception as error:
        return Found(mutant.name, 0, 0.0, (), f"{type(error).__name__}: {error}")
    began, seeds = time.process_time(), 0
    while True:
        seeds += 1
        plan = Plan(
            first + seeds - 1, hours=mutant.hours, kinds=mutant.kinds,
            personality=mutant.personality, sick=mutant.sick,
        )  # fmt: skip
        try:
            broken = simulate(plan).broken
        except Exception as error:
            broken = [f"crash: {type(error).__name__}: {error}"]
        spent = time.process_time() - began
        if broken or spent > seconds:
            return Found(mutant.name, seeds, spent, tuple(broken))


def hunt_apart(mutant: Mutant, *, seconds: float = CPU_SECONDS, first: int = 1) -> Found:
    """The same in a child: what is planted is gone with it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = pickle.dumps(hunt(mutant, seconds=seconds, first=first))
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(answer)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        return Found(mutant.name, 0, 0.0, (), "the process ended without an answer")
    found: Found = pickle.loads(answer)
    return found


def run_mutants(names: Sequence[str], *, first: int = 1) -> int:
    """Hunt all of them, or those named; 1 where one can't be planted or too few are found."""
    import tests.simulation.run  # noqa: F401 - loaded once, for every child
    from tests.simulation.ports import template

    template()
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    caught = lost = 0
    for mutant in chosen:
        found = hunt_apart(mutant, first=first)
        caught += bool(found.broken)
        lost += bool(found.trouble)
        said = found.trouble or (found.broken[0][:140] if found.broken else "not found")
        print(
            f"{mutant.name:34} {'found' if found.broken else 'NOT FOUND':9} "
            f"{found.seeds:3} seeds {found.seconds:6.1f} s  {said}",
            flush=True,
        )
    print(f"found {caught} of {len(chosen)}")
    return int(lost > 0 or caught < len(chosen) - 2)
