"""Prefect hands a run out twice: its worker crashed, or was silent for too long.

The second body begins beside the first, or while the first is stalled (as a virtual machine that is
moved, or a process that is stopped), or after the first has crashed. A run that has ended is not
handed out again.
"""

import asyncio
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.flow_runs import SimRun
from tests.simulation.loop import Host

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

SHARE = 0.5
"""Of the runs, those that something happens to."""
AFTER_CRASH = 0.7
"""Of the runs whose worker crashed, those that another one takes."""


class Twice:
    """Whose runs are taken by two workers."""

    def __init__(self, universe: "Universe", rng: Random) -> None:
        self._universe = universe
        self._rng = rng

    def taken(self, run: SimRun, host: Host) -> None:
        """A worker has taken `run`, in the process `host`."""
        if not self._universe.faulty("twice") or "twice" not in self._universe.people.kinds:
            return
        self._universe.spawn(self._after_crash(run, host))
        if self._rng.random() < SHARE:
            how = self._rng.choice((self._beside, self._stalled, self._crashed))
            self._universe.spawn(how(run, host))

    async def _beside(self, run: SimRun, _: Host) -> None:
        """Two workers take it within some seconds."""
        await asyncio.sleep(self._rng.choice((0.0, 0.05, 0.3, 1.0, 3.0)) * self._rng.random())
        self._again(run, "beside the first")

    async def _stalled(self, run: SimRun, host: Host) -> None:
        """The first stands still for longer than its heartbeat may, and goes on later."""
        await asyncio.sleep(self._rng.choice((0.1, 0.5, 2.0)) * self._rng.random())
        while holds_the_database(host):  # else everybody would wait for it, and nothing be shown
            await asyncio.sleep(0.01)
        if run.state_word != "running" or host.dead:
            return
        universe = self._universe
        universe.say(f"trouble: {host.name} stalls")
        universe.loop.stall(host)
        await asyncio.sleep(self._rng.choice((10.0, 40.0, 100.0)))
        self._again(run, "while the first is stalled")
        await asyncio.sleep(self._rng.choice((0.2, 2.0, 60.0)) * self._rng.random())
        universe.say(f"{host.name} goes on")
        universe.loop.go_on(host)

    async def _crashed(self, run: SimRun, host: Host) -> None:
        await asyncio.sleep(self._rng.choice((0.1, 0.5, 2.0)) * self._rng.random())
        if run.state_word == "running" and not host.dead:
            self._universe.crash(host)

    async def _after_crash(self, run: SimRun, host: Host) -> None:
        """Nobody hears of a crashed run any more, so another worker takes it."""
        await host.gone.wait()
        if run.state_word == "running" and self._rng.random() < AFTER_CRASH:
            await asyncio.sleep(self._rng.choice((5.0, 30.0, 90.0)))
            self._again(run, "after a crash")

    def _again(self, run: SimRun, when: str) -> None:
        if run.state_word == "running" and not self._universe.calm:
            self._universe.say(f"trouble: run {run.deployment} is taken again {when}")
            self._universe.workers.take(run)


def holds_the_database(host: Host) -> bool:
    """Whether a process is within a transaction."""
    connections = (getattr(close, "__self__", None) for close in host.handles)
    return any(
        getattr(getattr(each, "_connection", each), "in_transaction", False) for each in connections
    )
