"""What goes wrong in a universe, and the people in it: everything drawn from its seed."""

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import unescape
from random import Random
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.simulation.machine import seed_of
from tests.simulation.makini.truth import Connection
from tests.simulation.net import Fault, Request
from tests.simulation.universe import Universe

KINDS = ("calls", "episodes", "product", "prefect", "logins", "systems", "list", "forged", "clock")


@dataclass
class Episode:
    """Calls that match fail in one way until it ends."""

    until: datetime
    matches: Callable[[Request], bool]
    fault: Fault
    words: str


class Trouble:
    """Draws what goes wrong. `start` gives the tasks that do it."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self.rng = Random(seed_of(universe.plan.seed, "trouble"))
        self.kinds = {kind for kind in KINDS if self.rng.random() < 0.45}
        self.episodes: list[Episode] = []
        universe.network.decide = self.decide
        universe.face.mutilate_list = self.mutilate
        self._cut_list: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None
        self.logged_in: dict[str, datetime] = {}

    def start(self) -> Iterator[Any]:
        """One task for each kind of trouble that this universe has."""
        if "episodes" in self.kinds:
            yield self._episodes()
        if "product" in self.kinds:
            yield self._down(self.universe.product, "the product")
        if "prefect" in self.kinds:
            yield self._down(self.universe.prefect, "Prefect")
        if "logins" in self.kinds:
            yield self._logins()
            yield self._people()
        if "systems" in self.kinds:
            yield self._systems()
        if "list" in self.kinds:
            yield self._lists()
        if "forged" in self.kinds:
            yield self._forgeries()
        if "clock" in self.kinds:
            yield self._clocks()

    def end(self) -> None:
        """It is to be calm: everything works, except for logins that nobody renewed."""
        self.episodes.clear()
        self._cut_list = None
        universe = self.universe
        universe.product.down = universe.prefect.down = False
        for host in universe.hosts:
            host.skew = timedelta()
        for connection in universe.truth.living():
            universe.truth.set_online(connection, True, universe.now())
            universe.truth.set_active(connection, True, universe.now())

    def _on(self, kind: str) -> bool:
        return kind in self.kinds and self.universe.faulty(kind)

    async def _pause(self, mean: float) -> None:
        await asyncio.sleep(self.rng.expovariate(1 / mean))

    # --- the network

    def decide(self, request: Request) -> Fault | None:
        """What happens to one call."""
        now = self.universe.now()
        for episode in self.episodes:
            if now < episode.until and episode.matches(request):
                return episode.fault
        if not self._on("calls") or self.rng.random() > 0.03:
            return None
        return self.rng.choice((
            Fault("lose"), Fault("lose"), Fault("refuse"), Fault("hang"), Fault("html"),
            Fault("slow", seconds=self.rng.choice((4.0, 9.9, 14.9, 15.1))),
            Fault("status", 500), Fault("status", 503), Fault("status", 429, retry_after="2"),
        ))  # fmt: skip

    async def _episodes(self) -> None:
        while True:
            await self._pause(900.0)
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
            until = self.universe.now() + timedelta(seconds=seconds)
            self.episodes = [each for each in self.episodes if each.until > self.universe.now()]
            self.episodes.append(Episode(until, matches, fault, words))

    async def _down(self, peer: Any, name: str) -> None:
        while True:
            await self._pause(2400.0)
            if self.universe.calm:
                return
            peer.down = True
            self.universe.say(f"trouble: {name} is down")
            await asyncio.sleep(self.rng.choice((60.0, 400.0, 1800.0)))
            peer.down = False
            self.universe.say(f"{name} is back")

    # --- logins and systems

    async def _logins(self) -> None:
        truth = self.universe.truth
        while True:
            await self._pause(1500.0)
            if not self._on("logins"):
                continue
            connection = self.rng.choice(truth.living())
            if connection.login_ok:
                self.universe.say(f"trouble: {connection.key} loses its login")
                truth.lose_login(connection, self.universe.now())
            elif self.rng.random() < 0.4:
                self.universe.say(f"{connection.key}: the old password works again")
                truth.restore_login(connection, self.universe.now())

    async def _systems(self) -> None:
        truth = self.universe.truth
        while True:
            await self._pause(1200.0)
            if not self._on("systems"):
                continue
            connection = self.rng.choice(truth.living())
            now = self.universe.now()
            if self.rng.random() < 0.7:
                truth.set_online(connection, not connection.online, now)
                self.universe.say(f"trouble: {connection.key} online={connection.online}")
            else:
                truth.set_active(connection, not connection.active, now)
                self.universe.say(f"trouble: {connection.key} active={connection.active}")

    async def _people(self) -> None:
        """Customers log in by the link that Linekeeper made for them, some of them twice."""
        while True:
            await self._pause(600.0)
            pages = " ".join(str(each.data) for each in self.universe.prefect.artifacts.values())
            links = sorted(
                set(re.findall(r"\]\(https://linekeeper\.sim(/connect/[^)\s]+)\)", pages))
            )
            for link in links:
                if self.rng.random() < 0.5:
                    await self._log_in(link)
                    if self.rng.random() < 0.2:
                        await self._log_in(link)

    async def _log_in(self, link: str) -> None:
        universe = self.universe
        page = await universe.request("GET", link, {}, b"")
        if page is None or page.status != 200:
            universe.say(f"person: {link[:20]}… {page.status if page else 'no answer'}")
            return
        found = re.search(r'href="(https://link\.makini\.sim/oauth/authorize\?[^"]+)"',
                          page.body.decode())  # fmt: skip
        lost = [each for each in universe.truth.living() if not each.login_ok]
        asked = [each for each in lost if each.provider in page.body.decode()] or lost
        if found is None or not asked:
            return
        connection = self.rng.choice(asked)
        await asyncio.sleep(self.rng.uniform(5, 120))
        query = urlsplit(unescape(found[1])).query
        code, state = universe.face.authorize(query, connection.key)
        answer = await universe.request(
            "GET", "/oauth/callback", {}, b"", urlencode({"code": code, "state": state})
        )
        universe.say(
            f"person: logs in to {connection.key} {answer.status if answer else 'no answer'}"
        )

    # --- the list, webhooks, clocks

    def mutilate(self, listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The list as Makini shows it in an episode of its own."""
        return self._cut_list(listed) if self._cut_list is not None else listed

    async def _lists(self) -> None:
        while True:
            await self._pause(1500.0)
            if self.universe.calm:
                return
            name, self._cut_list = self.rng.choice((
                ("empty", lambda _: []),
                ("truncated", lambda listed: listed[: len(listed) // 2]),
                ("duplicated", lambda listed: listed + listed),
            ))  # fmt: skip
            self.universe.say(f"trouble: the list is {name}")
            await asyncio.sleep(self.rng.choice((100.0, 700.0)))
            self._cut_list = None

    async def _forgeries(self) -> None:
        universe = self.universe
        while True:
            await self._pause(300.0)
            if not self._on("forged"):
                continue
            connection = self.rng.choice(universe.truth.living())
            raw = self.rng.choice((
                b'{"event":"work-orders.updated","body":["x\\u0000y"]}', b"[]", b"", b"\x00",
                b'{"event":"assets.updated","connection_id":"nobody","body":["1"]}',
                b'{"event":"assets.updated","body":"not a list"}', b'{"event":42}',
                f'{{"event":"assets.updated","connection_id":"{connection.key}","body":'
                f'[{",".join(str(number) for number in range(300))}]}}'.encode(),
            ))  # fmt: skip
            genuine = self.rng.random() < 0.5
            signed = universe.postman.sign(raw) if genuine else "0" * 64
            headers = {"x-webhook-signature": signed, "content-type": "application/json"}
            answer = await universe.request("POST", "/webhooks/default", headers, raw)
            status = answer.status if answer else 0
            universe.say(f"strange webhook, {'signed' if genuine else 'forged'} → {status}")
            if status and (status == 200) != genuine:
                universe.found.append(f"receiver: answered {status} to {raw[:40]!r}, {genuine=}")

    async def _clocks(self) -> None:
        while True:
            await self._pause(1800.0)
            if not self._on("clock") or not self.universe.hosts:
                continue
            host = self.rng.choice(self.universe.hosts)
            host.skew = timedelta(seconds=self.rng.choice((-240.0, -30.0, 45.0, 300.0)))
            self.universe.say(f"trouble: the clock of {host.name} is off by {host.skew}")
