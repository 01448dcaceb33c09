"""Spells in which calls to Makini fail in one way: those of a connection, of an entity, or all."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.machine import seed_of
from tests.simulation.makini.connection import Connection
from tests.simulation.net import Fault, Request

if TYPE_CHECKING:
    from tests.simulation.universe import Universe


@dataclass
class Episode:
    """Calls that match fail in one way until it ends."""

    until: datetime
    matches: Callable[[Request], bool]
    fault: Fault
    words: str
    since: datetime
    key: str
    """Of the connection all of whose calls fail; empty where only an entity's do, or where all
    calls to Makini do."""
    everywhere: bool = False


class Episodes:
    """Those of now, and those there were."""

    def __init__(self, universe: "Universe", rng: Random, is_on: Callable[[str], bool]) -> None:
        self.universe = universe
        self.rng = rng
        self._on = is_on
        self.now: list[Episode] = []
        self.over: list[Episode] = []
        """Every episode there was, those of now too."""

    def fault_of(self, request: Request) -> Fault | None:
        """What a call meets."""
        now = self.universe.now()
        for episode in self.now:
            if now < episode.until and episode.matches(request):
                return episode.fault
        return None

    def end(self) -> None:
        """All of them are over."""
        for episode in self.now:
            episode.until = min(episode.until, self.universe.now())
        self.now.clear()

    async def of_connections(self) -> None:
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / 900.0))
            if not self._on("episodes"):
                continue
            connection = self.rng.choice(self.universe.truth.living())
            entity = self.rng.choice(connection.offers)
            fault = self.rng.choice((
                Fault("hang"), Fault("status", 500), Fault("status", 503), Fault("html"),
                Fault("status", 403), Fault("status", 404), Fault("refuse"), Fault("lose"),
                Fault("status", 429, retry_after=self.rng.choice(("5", "3600"))),
            ))  # fmt: skip
            whole = self.rng.random() < 0.4
            path = "" if whole else f"/api/{entity}"
            if fault.kind == "status" and fault.status in (403, 404, 429):
                path = f"/api/{entity}"  # one of these for everything says something else

            def matches(request: Request, of: Connection = connection, path: str = path) -> bool:
                token = request.headers.get("authorization", "").removeprefix("Bearer ")
                return (
                    request.host == "makini.sim"
                    and any(pair.access == token for pair in of.pairs)
                    and request.path.startswith(path or "/api/")
                )

            seconds = self.rng.choice((30.0, 300.0, 1500.0))
            words = f"{fault.kind} {fault.status} for {connection.key}{path} for {seconds:g} s"
            self.universe.say(f"trouble: {words}")
            key = connection.key
            until = self.universe.now() + timedelta(seconds=seconds)
            self.now = [each for each in self.now if each.until > self.universe.now()]
            self.begin(
                Episode(until, matches, fault, words, self.universe.now(), "" if path else key)
            )

    def begin(self, episode: Episode) -> None:
        """It lasts from now on."""
        self.now.append(episode)
        self.over.append(episode)

    async def of_list(self) -> None:
        """The list of connections is forbidden for an hour; each connection can be asked."""
        rng = Random(seed_of(self.universe.plan.seed, "list forbidden"))
        await asyncio.sleep(rng.uniform(300.0, 2400.0))
        if not self.universe.faulty("forbidden"):
            return
        now = self.universe.now()
        self.universe.say("trouble: the list of connections is forbidden for an hour")
        self.begin(
            Episode(
                now + timedelta(hours=1),
                lambda request: request.path == "/api/system/connections",
                Fault("status", 403), "the list is forbidden", now, "",
            )
        )  # fmt: skip

    async def of_makini(self) -> None:
        """No call to Makini is answered, whosever it is; from a source of chance of its own."""
        rng = Random(seed_of(self.universe.plan.seed, "makini away for"))
        while True:
            await asyncio.sleep(rng.expovariate(1 / 1800.0))
            if not self._on("makini"):
                continue
            seconds = rng.choice((60.0, 900.0, 1800.0))
            fault = rng.choice((Fault("refuse"), Fault("status", 503), Fault("hang")))
            now = self.universe.now()
            self.universe.say(f"trouble: Makini is away for {seconds:g} s: {fault.kind}")
            self.begin(
                Episode(
                    now + timedelta(seconds=seconds),
                    lambda request: request.host == "makini.sim",
                    fault, "Makini is away", now, "", everywhere=True,
                )
            )  # fmt: skip
            await asyncio.sleep(seconds)
