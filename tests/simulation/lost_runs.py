"""Flow runs whose process is gone: who takes it away, who settles them, and what must hold.

The power of a worker is cut while it works on a run, or before it has begun it, and no other worker
takes that run: at Prefect it stays as it is until Linekeeper's consumer finds it lost.
"""

import asyncio
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from linekeeper import clock
from linekeeper.consumer.loops import ServiceLoop
from tasks.prefect_adapter.lost_runs import BEGINS_WITHIN, CRASHES_WITHIN, silent_after
from tasks.prefect_adapter.orchestrator import CALL_SECONDS, PrefectOrchestrator
from tests.simulation.flow_runs import SimRun
from tests.simulation.forms import Forms
from tests.simulation.loop import Host
from tests.simulation.prefect import Connected, SimPrefect

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

SHARE = 0.3
"""Of the runs, those whose worker's power is cut."""
LOOK_SECONDS = 30.0
"""How often the consumer looks for them, as in production."""
BESIDE = timedelta(minutes=2)
"""What a run that is lost may take longer than its bound: a look, and a call of Prefect's."""
WATCH_SECONDS = 20.0


def looking(universe: "Universe") -> ServiceLoop:
    """The loop of a consumer that settles what was lost.

    A look that finds no run at work is left out until a run changes: it would find none again.
    """
    server = universe.prefect
    client: Any = Connected(server)
    orchestrator = PrefectOrchestrator(client)
    seen = -1

    async def look() -> bool:
        nonlocal seen
        if seen == server.changes and not server.down and not _may_be_lost(server):
            async with asyncio.timeout(CALL_SECONDS):  # timers of one moment keep their order
                return False
        changes = server.changes
        await orchestrator.look_after_lost_runs()
        seen = -1 if _may_be_lost(server) else changes
        return False

    return ServiceLoop("lost runs", look, every=LOOK_SECONDS)


def _may_be_lost(server: SimPrefect) -> bool:
    """Whether there is a run that a look is about, by the clock of who looks."""
    since = clock.utcnow() - CRASHES_WITHIN
    return any(
        run.state_word in ("pending", "running")
        or (run.state_word == "crashed" and run.state.timestamp > since)
        for run in server.runs.values()
    )


class LostRuns:
    """Takes runs their process, and watches what becomes of all those that have none."""

    def __init__(self, universe: "Universe", rng: Random) -> None:
        self._universe = universe
        self._rng = rng
        self._consumers: dict[Host, datetime] = {}
        """Since when each consumer that lives could ask Prefect."""
        self._lost: dict[tuple[str, int], datetime] = {}
        """Since when a run has no process, by the run and the number of its state."""
        universe.prefect.settled = self._settled

    def is_hit(self) -> bool:
        """Whether something happens to the run that is taken now."""
        return self._universe.trouble_is_on("lost") and self._rng.random() < SHARE

    def never_begins(self, run: SimRun) -> bool:
        """Whether the power of the worker that has taken `run` is cut before it begins."""
        is_so = self.is_hit() and self._rng.random() < 0.3
        if is_so:
            self._universe.say(f"trouble: run {run.deployment} is taken, and never begun")
        return is_so

    def taken(self, run: SimRun, host: Host) -> None:
        """A worker works on `run` in the process `host`."""
        if self.is_hit():
            self._universe.spawn(self._cut(run, host))

    async def _cut(self, run: SimRun, host: Host) -> None:
        await asyncio.sleep(self._rng.choice((0.05, 0.2, 1.0)) * self._rng.random())
        if run.state_word == "running" and not host.dead:
            self._universe.crash(host)

    async def watch(self) -> None:
        """A run without a process ends, or is due again, within its bound; forms are renewed."""
        forms = Forms(self._universe)
        while True:
            self._look()
            forms.look()
            await asyncio.sleep(WATCH_SECONDS)

    def _look(self) -> None:
        universe, now = self._universe, self._universe.now()
        listening = [
            host
            for host in universe.hosts
            if "consumer" in host.name and not host.dead and not universe.prefect.down
        ]
        self._consumers = {host: self._consumers.get(host, now) for host in listening}
        lost = {}
        for run in universe.prefect.runs.values():
            if run.state_word in ("pending", "running") and all(host.dead for host in run.hosts):
                lost[str(run.id), len(run.states)] = self._lost.get(
                    (str(run.id), len(run.states)), now
                )
                self._judge(run, lost[str(run.id), len(run.states)])
        self._lost = lost

    def _judge(self, run: SimRun, since: datetime) -> None:
        silence = silent_after() if run.state_word == "running" else BEGINS_WITHIN
        assert silence is not None
        now = self._universe.now()
        heard_for = [now - max(since, there) for there in self._consumers.values()]
        if max(heard_for, default=timedelta()) > silence + BESIDE and not run.is_given_up:
            run.is_given_up = True
            self._universe.found.append(
                f"lost run: {run.deployment} is {run.state_word} since "
                f"{run.moved_at:%H:%M:%S}, it has no process since {since:%H:%M:%S}"
            )

    def _settled(self, run: SimRun, word: str, since: datetime) -> None:
        """The consumer has found a run lost that was in this state since then."""
        universe, now = self._universe, self._universe.now()
        universe.say(f"lost run {run.deployment}: {run.state_word} {run.message}")
        living = [host for host in run.hosts if not (host.dead or host.stalled)]
        if word == "crashed" and len(run.hosts) > 1:
            living = []  # one of them said so; that the run goes on beside another does no harm
        if living:
            universe.found.append(f"lost run: {run.deployment} was taken for lost, and lives")
        silence = silent_after() if word == "running" else BEGINS_WITHIN
        heard_at = run.heard_at or since if word == "running" else since
        if word in ("pending", "running") and silence and now - heard_at < silence:
            universe.found.append(
                f"lost run: {run.deployment} is said to be silent for too long, it was heard "
                f"{(now - heard_at).total_seconds():.0f} s before: {run.message}"
            )
