"""Making a broken universe small: fewer kinds of trouble, fewer connections, less time.

A smaller plan of the same seed is another universe, so each is lived through; it counts where the
same kind of promise breaks in it. What is left is what the defect needs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from linekeeper.text import counted
from tests.simulation.plan import Plan, Verdict
from tests.simulation.run import simulate

Live = Callable[[Plan], Verdict]
ALWAYS = ("webhooks", "crash", "forbidden")
"""Kinds that every universe has beside those it draws, where none are named."""


def shrink(plan: Plan, broken: Sequence[str], live: Live = simulate) -> tuple[Plan, Verdict]:
    """The smallest plan found in which something of the same kind breaks, with its verdict.

    It is lived through once more as it is: what trouble it drew is named then.
    """
    wanted = {line.split(":", 1)[0] for line in broken}
    verdict = replace(live(plan), broken=list(broken))
    best = replace(plan, kinds=plan.kinds or verdict.kinds.union(ALWAYS))
    going = True
    while going:
        going = False
        for smaller in _smaller(best):
            tried = live(smaller)
            if wanted & {line.split(":", 1)[0] for line in tried.broken}:
                best, verdict, going = smaller, tried, True
                break
    return best, verdict


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Plans that are smaller by one step, the largest steps first."""
    kinds = sorted(plan.kinds)
    if len(kinds) > 1:
        half = len(kinds) // 2
        yield replace(plan, kinds=frozenset(kinds[:half]))
        yield replace(plan, kinds=frozenset(kinds[half:]))
        if len(kinds) > 2:
            yield from (replace(plan, kinds=frozenset(kinds) - {kind}) for kind in kinds)
    elif plan.faults and kinds != ["none"]:
        yield replace(plan, kinds=frozenset({"none"}))
    if plan.connections > 1:
        yield replace(plan, connections=plan.connections // 2)
    if plan.lull:
        yield replace(plan, lull=0.0)
    if plan.hours > 0.2:
        yield replace(plan, hours=plan.hours / 2)


def report(found: tuple[Plan, Verdict]) -> None:
    """Print what is left, and how it went."""
    plan, verdict = found
    print(
        f"  shrunk to {counted(plan.connections, 'connection')}, {plan.hours:g} hours, "
        f"trouble: {', '.join(sorted(plan.kinds))}; {len(verdict.trace)} lines:"
    )
    for line in verdict.broken:
        print(f"    broken: {line}")
    for line in verdict.trace:
        print(f"    {line}")
