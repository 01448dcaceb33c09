"""`make simulate`: one universe with its timeline, or many with their verdicts."""

import argparse
import gc
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.simulation.known import split

if TYPE_CHECKING:
    from tests.simulation.plan import Plan
    from tests.simulation.planting import Mutant


AGREEMENT = 0.98
"""Of the minutes of availability, the share that has to be as it was."""
ENOUGH_MINUTES = 2_000
SHAPES = (
    "small", "brief", "days", "lull", "connections", "kinds", "pace", "recording", "plant",
)  # fmt: skip
"""What makes another universe of the same seed."""


def main() -> int:
    """Run what is asked for; 1 when an invariant broke."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of a universe
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    asked = parser().parse_args()
    if asked.mutants is not None:
        from tests.simulation.hunt import run_mutants

        return run_mutants(asked.mutants, first=asked.first)
    if asked.chosen:
        from tests.simulation.chosen import CHOSEN

        asked.brief = True
        return run(asked, CHOSEN)
    first = asked.first if asked.seed is None else asked.seed
    count = 1 if asked.seed is not None else asked.seeds or 60
    return run(asked, range(first, first + count))


def parser() -> argparse.ArgumentParser:
    """What may be asked for."""
    options = argparse.ArgumentParser(prog="simulate", description=__doc__)
    options.add_argument("--seed", type=int, help="replay this universe")
    options.add_argument("--seeds", type=int, help="run so many universes")
    options.add_argument("--first", type=int, default=1, help="the first seed of --seeds")
    options.add_argument("--days", type=float, help="virtual days (default: as the seed draws)")
    options.add_argument(
        "--small", action="store_true", help="4 connections, ¾ hour of trouble, whatever the seed"
    )
    options.add_argument(
        "--brief", action="store_true", help="4 connections, ½ hour of trouble, as in make test"
    )
    options.add_argument("--chosen", action="store_true", help="the sixty brief ones of make test")
    options.add_argument(
        "--lull", type=float, help="so many hours in the middle without new trouble"
    )
    options.add_argument("--connections", type=int, help="how many connections")
    options.add_argument(
        "--kinds", help="this trouble alone, such as 'slack dark-keys', not what the seed draws"
    )
    options.add_argument("--pace", type=float, help="so much slower, for lives of many days")
    options.add_argument(
        "--mutants", nargs="*", metavar="NAME", help="plant the known defects, or those named"
    )
    options.add_argument(
        "--shrink", action="store_true", help="make what broke smaller, and print its timeline"
    )
    options.add_argument(
        "--recording", type=Path, metavar="FILE", help="a Makini as verify-account recorded it"
    )
    options.add_argument("--plant", metavar="NAME", help="with this known defect in the code")
    options.add_argument(
        "--twice", action="store_true", help="live each twice: the second life is to be the same"
    )
    options.add_argument("--trace", action="store_true", help="print the timeline")
    return options


def run(asked: argparse.Namespace, seeds: Sequence[int]) -> int:
    """Run the seeds one after the other."""
    gc.disable()  # what is imported stays: a fifth of that time went into looking for garbage
    import logging

    from tests.simulation.plan import Plan
    from tests.simulation.ports import template
    from tests.simulation.recorded import personality_of
    from tests.simulation.run import simulate
    from tests.simulation.shrinking import report, shrink
    from tests.simulation.sizes import brief, drawn

    gc.freeze()
    logging.disable(logging.CRITICAL)  # what it logs is not what it does
    template()
    planted = _plant(asked.plant) if asked.plant else None
    recorded = personality_of(asked.recording) if asked.recording else {}
    broken = minutes = agreed = 0
    acts: Counter[tuple[str, bool]] = Counter()
    for seed in seeds:
        plan = Plan(seed)
        is_sized = asked.small or asked.days or asked.connections or asked.pace or asked.plant
        if asked.brief:
            plan = brief(plan)
        elif not is_sized:
            plan = drawn(plan)
        if planted is not None:
            plan.kinds, plan.personality = planted.kinds, planted.personality
            plan.hours, plan.sick, plan.pace = planted.hours, planted.sick, planted.pace
            plan.lull = planted.lull
        plan.personality = {**plan.personality, **recorded}
        if asked.days:
            plan.hours = asked.days * 24
        if asked.kinds:
            plan.kinds = kinds_of(asked.kinds)
        if asked.pace:
            plan.pace = asked.pace
        if asked.lull is not None:
            plan.lull = asked.lull
        if asked.connections:
            plan.connections = asked.connections
        began = time.process_time()
        verdict = simulate(plan)
        if asked.trace:
            print("\n".join(verdict.trace))
        minutes += int(verdict.figures["minutes"])
        agreed += int(verdict.figures["agreed"])
        acts.update(verdict.acts.items())
        new, known = split(verdict.broken)
        if asked.twice and (again_lived := simulate(plan).digest) != verdict.digest:
            new.append(f"replay: a second life in the same process has the trace {again_lived}")
        broken += bool(new)
        figures = ", ".join(f"{value:g} {name}" for name, value in verdict.figures.items())
        seconds = time.process_time() - began
        print(f"seed {seed}: {'BROKEN' if new else 'holds'} · {figures} · "
              f"{seconds:.1f} s · trace {verdict.digest}", flush=True)  # fmt: skip
        for line in new:
            print(f"  broken: {line}")
        for line in verdict.differing:
            print(f"  availability: {line}")
        for line in known:
            print(f"  known open: {line}")
        if new:
            print(f'  replay: make simulate ARGS="{again(asked, seed)}"')
            if asked.shrink:
                found = shrink(plan, new)
                report(found)
                smaller = asked_for(found[0], asked)
                print(f'    replay: make simulate ARGS="{again(smaller, seed)}"')
    if minutes > ENOUGH_MINUTES and agreed < AGREEMENT * minutes:
        broken += 1
        print(f"broken: only {agreed} of {minutes} minutes of availability agree with the truth")
    for kind in sorted({kind for kind, _ in acts}):
        came = acts[kind, True]
        print(f"second act {kind}: came about in {came} of {came + acts[kind, False]}")
    print(f"{len(seeds)} seeds, {broken} broken")
    return int(broken > 0)


def kinds_of(said: str) -> frozenset[str]:
    """The kinds of trouble that `said` names, with a hyphen for a space. Raises `SystemExit`."""
    from tests.simulation.faults import ALL_KINDS

    kinds = frozenset(word.replace("-", " ") for word in said.split())
    if unknown := kinds - ALL_KINDS:
        known = " ".join(sorted(kind.replace(" ", "-") for kind in ALL_KINDS))
        raise SystemExit(f"no kind of trouble: {', '.join(sorted(unknown))}; there are: {known}")
    return kinds


def again(asked: argparse.Namespace, seed: int) -> str:
    """What `make simulate` is to be asked for to live through that universe once more."""
    said = ["--seed", str(seed)]
    for name in SHAPES:
        value = getattr(asked, name)
        if value is True:
            said.append(f"--{name}")
        elif value is not None and value is not False:
            said += [f"--{name}", str(value)]
    return shlex.join([*said, "--trace"])


def asked_for(plan: "Plan", asked: argparse.Namespace) -> argparse.Namespace:
    """What asks for `plan`, whatever its seed draws; `asked` says what is planted and recorded."""
    kinds = sorted(kind.replace(" ", "-") for kind in plan.kinds)
    given = vars(asked) | {
        "small": False, "brief": False, "days": plan.hours / 24, "lull": plan.lull or None,
        "connections": plan.connections, "kinds": " ".join(kinds),
        "pace": None if plan.pace == 1.0 else plan.pace,
    }  # fmt: skip
    return argparse.Namespace(**given)


def _plant(name: str) -> "Mutant":
    from tests.simulation.mutants import MUTANTS

    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    mutant.plant()
    return mutant


if __name__ == "__main__":
    sys.exit(main())
