"""`--mutants`: each known defect planted alone in a process of its own, hunted by universes.

The universe that is known to find it is lived through first, then 1, 2, 3, … A universe counts only
where the same one holds without the defect: that is lived through as a control, in a process of its
own, too.
"""

import logging
import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

from tests.simulation.mutants import MUTANTS
from tests.simulation.plan import Plan
from tests.simulation.planting import Mutant

CPU_SECONDS = 40.0
"""What a hunt may take; the controls are not counted."""


@dataclass(frozen=True)
class Found:
    """How a hunt ended."""

    mutant: str
    seeds: int = 0
    """How many universes were lived through with it."""
    seconds: float = 0.0
    seed: int = 0
    """The last of them."""
    broken: Sequence[str] = ()
    trouble: str = ""
    """Why it could not be planted."""
    control: str = ""
    """What broke in the same universe without it; empty: nothing."""

    @property
    def is_found(self) -> bool:
        """Whether a universe broke in time that holds without the defect."""
        return bool(self.broken) and not self.control and self.seconds <= CPU_SECONDS


def plan_of(mutant: Mutant, seed: int) -> Plan:
    """A universe in which the defect matters."""
    return Plan(
        seed, hours=mutant.hours, kinds=mutant.kinds, pace=mutant.pace,
        personality=mutant.personality, sick=mutant.sick, lull=mutant.lull,
    )  # fmt: skip


def seeds_of(mutant: Mutant, first: int) -> Iterator[int]:
    """The universes of a hunt, in their order."""
    yield mutant.seed
    yield from (seed for seed in count(first) if seed != mutant.seed)


def hunt(mutant: Mutant, seeds: Sequence[int], *, seconds: float) -> Found:
    """Plant `mutant` in this process, and live through `seeds` until one breaks."""
    from tests.simulation.run import simulate

    logging.disable(logging.CRITICAL)
    try:
        mutant.plant()
    except Exception as error:
        return Found(mutant.name, trouble=f"{type(error).__name__}: {error}")
    began, spent = time.process_time(), 0.0
    for number, seed in enumerate(seeds, start=1):
        try:
            broken = simulate(plan_of(mutant, seed)).broken
        except Exception as error:
            broken = [f"crash: {type(error).__name__}: {error}"]
        spent = time.process_time() - began
        if broken or spent > seconds:
            return Found(mutant.name, number, spent, seed, tuple(broken))
    return Found(mutant.name, len(seeds), spent, seeds[-1])


def control(mutant: Mutant, seed: int) -> Found:
    """The same universe without the defect."""
    from tests.simulation.run import simulate

    logging.disable(logging.CRITICAL)
    began = time.process_time()
    broken = simulate(plan_of(mutant, seed)).broken
    return Found(mutant.name, 1, time.process_time() - began, seed, tuple(broken))


def apart(work: Callable[[], Found], name: str) -> Found:
    """Do `work` in a child: what is planted is gone with it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = pickle.dumps(work())
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(answer)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        return Found(name, trouble="the process ended without an answer")
    found: Found = pickle.loads(answer)
    return found


MOST_SEEDS = 60


def hunt_apart(mutant: Mutant, *, first: int = 1) -> Found:
    """Hunt it in children; what breaks without the defect, too, is not what was looked for."""
    seeds = [seed for seed, _ in zip(seeds_of(mutant, first), range(MOST_SEEDS), strict=False)]
    lived, spent = 0, 0.0
    while True:
        left = CPU_SECONDS - spent
        found = apart(lambda: hunt(mutant, seeds[lived:], seconds=left), mutant.name)  # noqa: B023
        lived, spent = lived + found.seeds, spent + found.seconds
        found = replace(found, seeds=lived, seconds=spent)
        if found.trouble or not found.broken or lived >= len(seeds):
            return found
        alone = apart(lambda: control(mutant, found.seed), mutant.name)  # noqa: B023
        if not alone.broken and not alone.trouble:
            return found
        found = replace(found, control=alone.trouble or alone.broken[0])
        if spent > CPU_SECONDS:
            return found


def run_mutants(names: Sequence[str], *, first: int = 1) -> int:
    """Hunt all of them, or those named; 1 where one can't be planted or too few are found."""
    import tests.simulation.run  # noqa: F401 - loaded once, for every child
    from tests.simulation.ports import template

    template()
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    caught = lost = 0
    for number, mutant in enumerate(chosen, start=1):
        found = hunt_apart(mutant, first=first)
        caught += found.is_found
        lost += bool(found.trouble)
        said = found.trouble or (found.broken[0][:140] if found.broken else "nothing broke")
        if found.control:
            said = f"breaks without it, too: {found.control[:120]}"
        where = f"seed {found.seed}" if found.is_found else "NOT FOUND"
        print(
            f"{number:2} {mutant.name:33} {where:9} {found.seeds:3} lived {found.seconds:6.1f} s"
            f"  {said}",
            flush=True,
        )
    print(f"found {caught} of {len(chosen)}")
    return int(lost > 0 or caught < len(chosen) - 2)
