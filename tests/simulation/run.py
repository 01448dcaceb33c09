"""Running universes: one with its trace, or many with their verdicts."""

import asyncio
import gc
import hashlib
import shutil
import tempfile
from pathlib import Path

from linekeeper.outbox.senders import slack
from tests.simulation.availability import compare
from tests.simulation.faults import Trouble
from tests.simulation.loop import Deadlock, VirtualLoop, freeze_leftovers
from tests.simulation.oracle import Oracle
from tests.simulation.plan import Plan, Verdict
from tests.simulation.ports import machines, template
from tests.simulation.second_acts import ACTS
from tests.simulation.universe import Universe


def simulate(plan: Plan) -> Verdict:
    """Live through one universe and judge it."""
    home = Path(tempfile.mkdtemp(prefix="universe-", dir=_fast_folder()))
    shutil.copy(template(), home / "linekeeper.db")
    universe = Universe(plan, home)
    universe.trouble = Trouble
    loop: VirtualLoop = universe.loop
    verdict = Verdict(plan.seed)
    asyncio.set_event_loop(loop)
    slack.PACER._next.clear()  # its slots are on the clock of the universe before
    if not gc.isenabled():  # else there was none before
        gc.collect()  # of the universe before; just once, as it is off from the first of them on
    gc.freeze()  # what is left is never looked at again: that would cost half a second each time
    gc.disable()  # a tenth of the time of a universe, which ends soon
    try:
        with machines(universe):
            try:
                loop.run_until_complete(universe.live())
            except Deadlock as error:
                universe.found.append(f"endless: {error}")
        verdict.broken = Oracle(universe, home / "linekeeper.db").judge()
        available = compare(universe, home / "linekeeper.db")
        verdict.broken += available.broken
    finally:
        for host in universe.hosts:
            host.cut()
        universe.disk.close()
        freeze_leftovers(loop)
        asyncio.set_event_loop(None)
        loop.close()
        shutil.rmtree(home, ignore_errors=True)
    verdict.trace = universe.lines
    verdict.differing = [
        f"{minutes} minutes {said}, in truth {so}"
        for (said, so), minutes in sorted(available.differing.items())
    ]
    verdict.digest = hashlib.sha256("\n".join(universe.lines).encode()).hexdigest()[:16]
    verdict.kinds = frozenset(universe.people.kinds)
    planned = universe.people.kinds & set(ACTS)
    verdict.acts = {kind: kind in universe.acted for kind in sorted(planned)}
    verdict.figures = {
        "webhooks": len(universe.delivered), "lost": len(universe.lost),
        "crashes": len(universe.crashed_at), "forwards": len(universe.product.taken),
        "runs": len(universe.prefect.runs), "minutes": available.minutes,
        "agreed": available.agreed, "hidden": available.hidden, "exact": available.exact,
        "steps": loop.steps, "commits": universe.disk.commits,
    }  # fmt: skip
    universe.forget()
    return verdict


def _fast_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
