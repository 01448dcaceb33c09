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

from tests.simulation.loop import HOST
from tests.simulation.machine import seed_of
from tests.simulation.makini.truth import Connection
from tests.simulation.net import PEERS, Fault, Request
from tests.simulation.patience import Patience
from tests.simulation.sickness import Sickness
from tests.simulation.sickness import draw as draw_sickness
from tests.simulation.universe import Universe

KINDS = (
    "calls", "episodes", "product", "prefect", "slack", "logins", "systems", "list", "forged",
    "clock", "commits", "stops", "tokens", "sick",
)  # fmt: skip


MAKINI_AWAY = 0.3
"""The share of universes in which Makini as a whole goes away."""
CUT_AFTER = ("", " webhook_event", " webhook_event", " outbox", " incident", " credential")
"""What a transaction wrote to after whose commit the power is cut."""
LACKS_FROM_SECONDS = 1200.0
"""A listing that lacks records does so once all were read."""


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


class Trouble:
    """Draws what goes wrong. `start` gives the tasks that do it."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self.rng = Random(seed_of(universe.plan.seed, "trouble"))
        self.kinds = {kind for kind in KINDS if self.rng.random() < 0.45}
        # Drawn by itself: the other universes are as they were before there was this kind.
        if Random(seed_of(universe.plan.seed, "makini away")).random() < MAKINI_AWAY:
            self.kinds.add("makini")
        if universe.plan.kinds:
            self.kinds = set(universe.plan.kinds)
        self.episodes: list[Episode] = []
        self.patience = Patience(universe)
        universe.network.decide = self.decide
        universe.face.mutilate_list = self.mutilate
        self._cut_list: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None
        self.logged_in: dict[str, datetime] = {}
        self.sick: Sickness | None = None
        self.over: list[Episode] = []
        """Every episode there was, those of now too."""
        self.failing: set[str] = set()
        """The keys of connections of which an episode was."""
        universe.disk.cut_now = universe.crash
        universe.face.lacking = self.lacking

    def start(self) -> Iterator[Any]:
        """One task for each kind of trouble that this universe has."""
        if "episodes" in self.kinds:
            yield self._episodes()
        if "product" in self.kinds:
            yield self._down(self.universe.product, "the product")
        if "prefect" in self.kinds:
            self.universe.prefect.loses_answers = lambda: self.rng.random() < 0.25
            yield self._down(self.universe.prefect, "Prefect")
        if "slack" in self.kinds:
            yield self._down(self.universe.slack, "Slack")
        if "logins" in self.kinds:
            yield self._logins()
            yield self._people()
        if "commits" in self.kinds:
            yield self._commits()
        if "stops" in self.kinds:
            yield self._stops()
        if "tokens" in self.kinds:
            yield self._tokens()
        if self._on("sick"):
            self.sick = draw_sickness(
                self.rng, self.universe.truth.living(), self.universe.plan.sick
            )
            if self.sick is not None:
                self.universe.say(f"sick to the end: {self.sick.words()}")
        if "systems" in self.kinds:
            yield self._systems()
        if "list" in self.kinds:
            yield self._lists()
        if "makini" in self.kinds:
            yield self._makini_away()
        if "forged" in self.kinds:
            yield self._forgeries()
        if "clock" in self.kinds:
            yield self._clocks()

    def end(self) -> None:
        """It is to be calm: everything works, except for logins that nobody renewed."""
        for episode in self.episodes:
            episode.until = min(episode.until, self.universe.now())
        self.episodes.clear()
        self._cut_list = None
        universe = self.universe
        universe.product.down = universe.prefect.down = universe.slack.down = False
        universe.prefect.loses_answers = lambda: False
        universe.disk.cut_next = None
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
        fault = self._drawn(request)
        self.patience.called(request, fault)
        return fault

    def _drawn(self, request: Request) -> Fault | None:
        now = self.universe.now()
        if self.sick is not None and self.sick.matches(request):
            return self.sick.fault
        for episode in self.episodes:
            if now < episode.until and episode.matches(request):
                return episode.fault
        if request.path == "/link/token":
            self._hit_refresh(request)
        if not self._on("calls") or self.rng.random() > 0.03:
            return None
        if request.path == "/link/token":
            # An answer with a new pair that is lost is lost for good: that is no fault of ours.
            return self.rng.choice((Fault("refuse"), Fault("status", 503), None))
        fault = self.rng.choice((
            Fault("lose"), Fault("lose"), Fault("refuse"), Fault("hang"), Fault("html"),
            Fault("slow", seconds=self.rng.choice((4.0, 9.9, 14.9, 15.1))),
            Fault("status", 500), Fault("status", 503), Fault("status", 429, retry_after="2"),
        ))  # fmt: skip
        if fault.kind == "html" and request.host == "product.sim":
            return Fault("status", 502)  # any 2xx of the product's says that it took the event
        return fault

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
            key = connection.key
            self.failing.add(key)
            until = self.universe.now() + timedelta(seconds=seconds)
            self.episodes = [each for each in self.episodes if each.until > self.universe.now()]
            self._begin(
                Episode(until, matches, fault, words, self.universe.now(), "" if path else key)
            )

    def _begin(self, episode: Episode) -> None:
        self.episodes.append(episode)
        self.over.append(episode)

    async def _makini_away(self) -> None:
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
            self._begin(
                Episode(
                    now + timedelta(seconds=seconds),
                    lambda request: request.host == "makini.sim",
                    fault, "Makini is away", now, "", everywhere=True,
                )
            )  # fmt: skip
            await asyncio.sleep(seconds)

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

    # --- processes and tokens

    async def _commits(self) -> None:
        """The power of a process is cut right after a commit, often one that matters."""
        while True:
            await self._pause(400.0)
            if self._on("commits"):
                choice = ("receiver", "consumer", "consumer", "consumer", "worker")
                self.universe.disk.cut_next = self.rng.choice(choice)
                self.universe.disk.cut_after = self.rng.choice(CUT_AFTER)

    async def _stops(self) -> None:
        """A process is told to stop, and started again."""
        while True:
            await self._pause(1200.0)
            if self._on("stops"):
                self.universe.stop(self.rng.choice(("receiver", "consumer", "worker")))

    def _hit_refresh(self, request: Request) -> None:
        """Whoever refreshes a pair is told to stop while Makini works on it."""
        host = HOST.get()
        if host is None or b"refresh_token" not in request.body or not self._on("stops"):
            return
        if self.rng.random() < 0.5:
            self.universe.loop.call_later(0.09, self.universe.stop, host.name, context=PEERS.copy())

    async def _tokens(self) -> None:
        """Makini ends an access token before its time; the refresh token lives."""
        while True:
            await self._pause(900.0)
            if self._on("tokens"):
                connection = self.rng.choice(self.universe.truth.living())
                self.universe.say(f"trouble: the access token of {connection.key} ends early")
                self.universe.truth.end_tokens(connection, self.universe.now())

    def lacking(self, key: str, entity: str) -> int:
        """How many records a listing lacks."""
        if self.sick is None or not self.sick.covers(key, entity) or self.universe.calm:
            return 0
        if self.universe.loop.time() < LACKS_FROM_SECONDS:
            return 0  # what was never listed can't be missed
        return self.sick.lacking

    def is_sick(self, connection: Connection) -> bool:
        """Whether something of it stays wrong to the end."""
        return self.sick is not None and self.sick.connection is connection

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
            for link in self._links():
                if self.rng.random() < 0.5:
                    await self._log_in(link)
                    if self.rng.random() < 0.2:
                        await self._log_in(link)

    def _links(self) -> list[str]:
        """The connect links that Linekeeper shows, on pages and in Slack."""
        shown = [str(each.data) for each in self.universe.prefect.artifacts.values()]
        shown += [message.text for message in self.universe.slack.channel]
        return sorted(set(re.findall(r"https://linekeeper\.sim(/connect/[\w-]+)", " ".join(shown))))

    async def log_in_to(self, connection: Connection) -> bool:
        """The customer of `connection` logs in by the link; False where there is none."""
        for link in self._links():
            if await self._log_in(link, connection):
                return True
        return False

    async def _log_in(self, link: str, wanted: Connection | None = None) -> bool:
        universe = self.universe
        page = await universe.request("GET", link, {}, b"")
        if page is None or page.status != 200:
            universe.say(f"person: {link[:20]}… {page.status if page else 'no answer'}")
            return False
        found = re.search(r'href="(https://link\.makini\.sim/oauth/authorize\?[^"]+)"',
                          page.body.decode())  # fmt: skip
        lost = [each for each in universe.truth.living() if not each.login_ok]
        asked = [each for each in lost if each.provider in page.body.decode()] or lost
        if wanted is not None:
            asked = [wanted] if wanted.name in page.body.decode() else []
        if found is None or not asked:
            return False
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
        # Where Makini's word lags, the page says that it is not verified yet: it is logged in.
        return answer is not None and (answer.status == 200 or connection.login_ok)

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
            await asyncio.sleep(self.rng.choice((100.0, 1300.0)))
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
