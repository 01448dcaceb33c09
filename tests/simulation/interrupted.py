"""Processes of ours that are cut, stopped, failed by their database, or believe another time."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.loop import HOST
from tests.simulation.net import PEERS, Request
from tests.simulation.storage import Failing

if TYPE_CHECKING:
    from tests.simulation.universe import Universe

CUT_AFTER = (
    "", " webhook_event", "processed_at=?", "processed_at=?", "attempts=(", "attempts=(",
    " incident", " credential",
)  # fmt: skip
"""What a transaction wrote after whose commit the power is cut: a settlement, a claim, …"""


class Interrupted:
    """`is_on` says whether that kind of trouble may happen now, `pause` waits about so long."""

    def __init__(
        self,
        universe: "Universe",
        rng: Random,
        is_on: Callable[[str], bool],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self.universe = universe
        self.rng = rng
        self._is_on = is_on
        self._pause = pause

    async def commits(self) -> None:
        """The power of a process is cut right after a commit, often one that matters."""
        while True:
            await self._pause(400.0)
            if self._is_on("commits"):
                choice = ("receiver", "consumer", "consumer", "consumer", "worker")
                self.universe.disk.cut_next = self.rng.choice(choice)
                self.universe.disk.cut_after = self.rng.choice(CUT_AFTER)
                self.universe.disk.cuts_before = (
                    self._is_on("before commit") and self.rng.random() < 0.4
                )

    async def stops(self) -> None:
        """A process is told to stop, and started again."""
        while True:
            await self._pause(1200.0)
            if self._is_on("stops"):
                self.universe.stop(self.rng.choice(("receiver", "consumer", "worker")))

    async def statements(self) -> None:
        """A statement fails, or for some seconds every one that writes."""
        while True:
            await self._pause(300.0)
            if self._is_on("statements"):
                self.universe.disk.fail = Failing(
                    self.universe, self.rng.randrange(1, 80), self.rng.choice((0.0, 0.0, 20.0))
                )

    def hit_refresh(self, request: Request) -> None:
        """Whoever refreshes a pair is told to stop while Makini works on it."""
        host = HOST.get()
        if host is None or b"refresh_token" not in request.body or not self._is_on("stops"):
            return
        if self.rng.random() < 0.5:
            self.universe.loop.call_later(0.09, self.universe.stop, host.name, context=PEERS.copy())

    async def clocks(self) -> None:
        """A process believes that it is minutes earlier or later."""
        while True:
            await self._pause(1800.0)
            if not self._is_on("clock") or not self.universe.hosts:
                continue
            host = self.rng.choice(self.universe.hosts)
            host.skew = timedelta(seconds=self.rng.choice((-240.0, -30.0, 45.0, 300.0)))
            self.universe.say(f"trouble: the clock of {host.name} is off by {host.skew}")
