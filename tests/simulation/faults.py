"""What goes wrong in a universe, and the people in it: everything drawn from its seed."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

from linekeeper.config import AlertPolicy
from tests.simulation.caps import Caps
from tests.simulation.courtesy import Quiet
from tests.simulation.customers import Customers
from tests.simulation.deadline import Deadline
from tests.simulation.ending import APART, ENDING, ENDING_FROM, Ending, endings
from tests.simulation.ending import CHANCE as ENDING_CHANCE
from tests.simulation.episodes import Episodes
from tests.simulation.loop import HOST
from tests.simulation.lost_runs import LostRuns
from tests.simulation.machine import seed_of
from tests.simulation.makini.personality import LATEST_LIBERTIES_FROM
from tests.simulation.makini.truth import Connection
from tests.simulation.net import PEERS, Fault, Request
from tests.simulation.operators import Operators
from tests.simulation.pairs import LostPairs
from tests.simulation.patience import Patience
from tests.simulation.rare import RARE, RARE_KINDS, Rare
from tests.simulation.renewed import MEANWHILE
from tests.simulation.second_acts import SecondActs
from tests.simulation.shifting import Shifting
from tests.simulation.sickness import Sickness
from tests.simulation.sickness import draw as draw_sickness
from tests.simulation.storage import Failing
from tests.simulation.storms import STORM, storm
from tests.simulation.twice import Twice
from tests.simulation.universe import Universe
from tests.simulation.unusual import UNUSUAL, UNUSUAL_KINDS, Unusual

KINDS = (
    "calls", "episodes", "product", "prefect", "slack", "logins", "systems", "list", "forged",
    "clock", "commits", "stops", "tokens", "sick",
)  # fmt: skip

MORE_KINDS = (
    "second",
    "hands",
    "anew",
    "statements",
    "buttons",
    "mail",
    "settings",
    "quiet",
    "before commit",
    "twice",
    "forms",
    "pairs",
    "shift",
)
"""Drawn by themselves: the other kinds of a seed are those it had before there were these."""
MORE = 0.3


MAKINI_AWAY = 0.3
"""The share of universes in which Makini as a whole goes away."""
RUNS_LOST = 0.25
"""The share of those in which workers lose runs."""
CUT_AFTER = (
    "", " webhook_event", "processed_at=?", "processed_at=?", "attempts=(", "attempts=(",
    " incident", " credential",
)  # fmt: skip
"""What a transaction wrote after whose commit the power is cut: a settlement, a claim, …"""
LACKS_FROM_SECONDS = 1200.0
"""A listing that lacks records does so once all were read."""


class Trouble:
    """Draws what goes wrong. `start` gives the tasks that do it."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self.rng = Random(seed_of(universe.plan.seed, "trouble"))
        self.kinds = {kind for kind in KINDS if self.rng.random() < 0.45}
        # Drawn by itself: the other universes are as they were before there was this kind.
        if Random(seed_of(universe.plan.seed, "makini away")).random() < MAKINI_AWAY:
            self.kinds.add("makini")
        more = Random(seed_of(universe.plan.seed, "more trouble"))
        self.kinds |= {kind for kind in MORE_KINDS if more.random() < MORE}
        rare = Random(seed_of(universe.plan.seed, "rare trouble"))
        self.kinds |= {kind for kind in RARE_KINDS if rare.random() < RARE}
        unusual = Random(seed_of(universe.plan.seed, "unusual trouble"))
        self.kinds |= {kind for kind in UNUSUAL_KINDS if unusual.random() < UNUSUAL}
        if Random(seed_of(universe.plan.seed, "runs are lost")).random() < RUNS_LOST:
            self.kinds.add("lost")
        storms = Random(seed_of(universe.plan.seed, "storms"))
        if universe.plan.seed >= LATEST_LIBERTIES_FROM and storms.random() < STORM:
            self.kinds.add("storm")
        acts = Random(seed_of(universe.plan.seed, "second acts"))
        self.kinds |= SecondActs.drawn(universe.plan.seed, acts)
        ends = Random(seed_of(universe.plan.seed, "endings"))
        if universe.plan.seed >= ENDING_FROM and ends.random() < ENDING_CHANCE:
            self.kinds = {*self.kinds, ENDING} - APART
        if universe.plan.kinds:
            self.kinds = set(universe.plan.kinds)
        if MEANWHILE in self.kinds:
            self.kinds = {*self.kinds, ENDING} - APART
        self.endings: list[Ending] = []
        self.customers = Customers(universe, Random(seed_of(universe.plan.seed, "customers")))
        self.operators = Operators(universe, Random(seed_of(universe.plan.seed, "operators")))
        self.twice = Twice(universe, Random(seed_of(universe.plan.seed, "twice")))
        self.lost_runs = LostRuns(universe, Random(seed_of(universe.plan.seed, "lost runs")))
        self.shifting = Shifting(universe, Random(seed_of(universe.plan.seed, "shift")))
        self.pairs = LostPairs(universe, Random(seed_of(universe.plan.seed, "pairs")))
        self.rare = Rare(universe, Random(seed_of(universe.plan.seed, "rare")))
        self.unusual = Unusual(universe, Random(seed_of(universe.plan.seed, "unusual")))
        self.second_acts = SecondActs(universe, acts)
        self.caps = Caps(universe)
        self.episodes = Episodes(universe, self.rng, self._on)
        self.over = self.episodes.over
        self.patience = Patience(universe)
        universe.network.decide = self.decide
        universe.network.came = self.pairs.came
        universe.face.mutilate_list = self.mutilate
        self._cut_list: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None
        self.removed: set[str] = set()
        """The keys of connections that were disconnected at Makini."""
        self.sick: Sickness | None = None
        universe.disk.cut_now = universe.crash
        universe.face.lacking = self.lacking

    def start(self) -> Iterator[Any]:
        """One task for each kind of trouble that this universe has."""
        yield self.lost_runs.watch()
        yield from self.second_acts.start(self.kinds)  # before the kinds that come with them
        if ENDING in self.kinds:
            yield endings(self.universe, Random(seed_of(self.universe.plan.seed, "ending")))
        if "episodes" in self.kinds:
            yield self.episodes.of_connections()
        if "product" in self.kinds:
            yield self._down(self.universe.product, "the product")
        if "prefect" in self.kinds:
            self.universe.prefect.loses_answers = lambda: self.rng.random() < 0.5
            yield self._down(self.universe.prefect, "Prefect")
        if "slack" in self.kinds:
            yield self._down(self.universe.slack, "Slack")
        if "logins" in self.kinds:
            yield self._logins()
            yield self.customers.live()
        if "storm" in self.kinds:
            yield storm(self.universe, Random(seed_of(self.universe.plan.seed, "storm")))
        if "commits" in self.kinds:
            yield self._commits()
        if "stops" in self.kinds:
            yield self._stops()
        if "shift" in self.kinds:
            self.shifting.fill()
        if self.kinds & {"tokens", "pairs"}:
            yield self._tokens()
        if self._on("sick"):
            living, wanted = self.universe.truth.living(), self.universe.plan.sick
            personality = self.universe.personality
            has_total = personality.paging != "cursor" and personality.says_pages
            self.sick = draw_sickness(self.rng, living, wanted, has_total=has_total)
            if self.sick is not None and self.sick.lacking:
                # So many that one or two of them are not too many to be believed gone.
                self.universe.truth.fill(self.sick.connection, self.sick.entity, 60)
            if self.sick is not None:
                self.universe.say(f"sick to the end: {self.sick.words()}")
        if "systems" in self.kinds:
            yield self._systems()
        if "list" in self.kinds:
            yield self._lists()
        if "makini" in self.kinds:
            yield self.episodes.of_makini()
        if self.universe.personality.forbids_list:
            yield self.episodes.of_list()
        if "forged" in self.kinds:
            yield self._forgeries()
        if "clock" in self.kinds:
            yield self._clocks()
        if "hands" in self.kinds:
            yield self.operators.start_runs()
        if "buttons" in self.kinds:
            yield self.operators.press_buttons()
        if "forms" in self.kinds:
            yield self.operators.answer_forms()
        if "quiet" in self.kinds:
            quiet = Quiet.of(self.universe)
            alerts = AlertPolicy(time_zone=quiet.zone, quiet_hours=quiet.words)
            self.universe.prefect.blocks = replace(self.universe.prefect.blocks, alerts=alerts)
        if "settings" in self.kinds:
            yield self.operators.change_settings()
        if "mail" in self.kinds:
            self.universe.mail.loses = 0.2
            yield self._down(self.universe.mail, "the mail server")
        if "statements" in self.kinds:
            yield self._statements()
        if "anew" in self.kinds:
            yield self._anew()
        if "deadline" in self.kinds:
            chance = Random(seed_of(self.universe.plan.seed, "deadline"))
            yield Deadline(self.universe, chance).live()
        yield from self.rare.start(self.kinds)
        yield from self.unusual.start(self.kinds)

    def end(self) -> None:
        """It is to be calm: everything works, except for logins that nobody renewed."""
        self.episodes.end()
        self._cut_list = None
        universe = self.universe
        universe.product.down = universe.prefect.down = universe.slack.down = False
        universe.prefect.loses_answers = lambda: False
        universe.mail.down, universe.mail.loses = False, 0.0
        universe.disk.cut_next = universe.disk.fail = None
        self.operators.restore(to_the_end=True)
        for host in universe.hosts:
            host.skew = timedelta()
        self.rare.end()
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
        if self._on("shift"):
            self.shifting.called(request)
        self.patience.called(request, fault)
        self.caps.called(request)
        return fault

    def _drawn(self, request: Request) -> Fault | None:
        if self.sick is not None and self.sick.matches(request):
            return self.sick.fault
        if (fault := self.episodes.fault_of(request)) is not None:
            return fault
        if request.path == "/link/token":
            self._hit_refresh(request)
            if self._on("pairs") and (fault := self.pairs.fault_of(request)) is not None:
                return fault
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
                self.universe.disk.cuts_before = (
                    "before commit" in self.kinds and self.rng.random() < 0.4
                )

    async def _stops(self) -> None:
        """A process is told to stop, and started again."""
        while True:
            await self._pause(1200.0)
            if self._on("stops"):
                self.universe.stop(self.rng.choice(("receiver", "consumer", "worker")))

    async def _statements(self) -> None:
        """A statement fails, or for some seconds every one that writes."""
        while True:
            await self._pause(300.0)
            if self._on("statements"):
                self.universe.disk.fail = Failing(
                    self.universe, self.rng.randrange(1, 80), self.rng.choice((0.0, 0.0, 20.0))
                )

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
            if self._on("tokens") or self._on("pairs"):
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

    async def _anew(self) -> None:
        """A customer disconnects at Makini, and connects the same system anew a while later."""
        truth = self.universe.truth
        while True:
            await self._pause(1800.0)
            if not self._on("anew"):
                continue
            connection = self.rng.choice(truth.living())
            if connection.key in self.removed or not connection.login_ok:
                continue
            self.removed.add(connection.key)
            self.universe.say(f"trouble: {connection.key} is disconnected at Makini")
            truth.delete(connection, self.universe.now())
            await asyncio.sleep(self.rng.choice((30.0, 400.0, 1200.0)))
            target = truth.connect_anew(connection, self.universe.now())
            self.universe.say(f"trouble: it is connected anew as {target.key}")

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
                f'[{",".join(str(number) for number in range(60))}]}}'.encode(),
            ))  # fmt: skip
            genuine = self.rng.random() < 0.5
            signed = universe.postman.sign(raw) if genuine else "0" * 64
            headers = {"x-webhook-signature": signed, "content-type": "application/json"}
            answer = await universe.request("POST", "/webhooks/default", headers, raw)
            status = answer.status if answer else 0
            universe.say(f"strange webhook, {'signed' if genuine else 'forged'} → {status}")
            if status == 404 and "settings" in self.kinds:
                continue  # its app is not in the settings just now
            if status == 503 and ("statements" in self.kinds or len(universe.keys) > 1):
                continue  # it could not be stored, or a receiver was forgotten that lacks the key
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
