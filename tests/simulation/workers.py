"""Prefect's schedules, and the workers that take what is due."""

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

from tests.simulation.flow_runs import SimRun
from tests.simulation.loop import Host
from tests.simulation.net import PEERS

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

SCHEDULES = {
    "health-sweep": 300.0, "reconcile": 900.0, "process-webhooks": 900.0,
    "refresh-tokens": 21_600.0, "advance-implementations": 3_600.0, "digest": 86_400.0,
    "housekeeping": 86_400.0,
}  # fmt: skip
"""Seconds between two runs, before the universe's pace."""


class Workers:
    """Take runs, each in a process of its own."""

    def __init__(self, universe: "Universe") -> None:
        self._universe = universe

    async def schedule(self, name: str, every: float) -> None:
        """Runs of `name` are due, one after the other."""
        await asyncio.sleep(self._universe.rng.uniform(1.0, min(every, 120.0)))
        while True:
            if not self._universe.prefect.down:
                run = SimRun(UUID(self._universe.clock.new_id()), name, name, True)
                self._universe.prefect.enqueue(run)
            await asyncio.sleep(every)

    async def live(self) -> None:
        """A worker: every run is a process of its own."""
        while True:
            await self._universe.prefect.queued.wait()
            self._universe.prefect.queued.clear()
            await asyncio.sleep(1.0)
            while self._universe.prefect.queue:
                if self._universe.workers_away:
                    await asyncio.sleep(5.0)
                    continue
                run = self._universe.prefect.queue.pop(0)
                self._universe.prefect.taken(run)
                if not self._universe.people.lost_runs.never_begins(run):
                    self.take(run)

    def take(self, run: SimRun) -> None:
        """A worker runs it, in a process of its own."""

        async def main(_: Host) -> None:
            await self._universe.prefect.run_flow(run)

        host, task = self._universe.start(f"worker {run.deployment}", main)
        run.hosts.append(host)
        self._universe.people.lost_runs.taken(run, host)
        task.add_done_callback(lambda _: self._ended(run, host), context=PEERS)
        self._universe.people.twice.taken(run, host)

    def _ended(self, run: SimRun, host: Host) -> None:
        host.end()
        self._universe.say(f"run {run.deployment}: {run.state_word} {run.state_name} {run.message}")
