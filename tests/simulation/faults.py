"""What goes wrong in a universe, and the people in it: everything drawn from its seed."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

from linekeeper.config import AlertPolicy
from tests.simulation.arranged import ARRANGED, LATEST, NEWEST
from tests.simulation.at_makini import AtMakini
from tests.simulation.caps import Caps
from tests.simulation.courtesy import Quiet
from tests.simulation.customers import Customers
from tests.simulation.deadline import Deadline
from tests.simulation.doubted import DOUBTED
from tests.simulation.ending import APART, ENDING, ENDING_FROM, Ending, endings
from tests.simulation.ending import CHANCE as ENDING_CHANCE
from tests.simulation.endless import Endless
from tests.simulation.episodes import Episodes
from tests.simulation.interrupted import Interrupted
from tests.simulation.later_acts import LATER_ACTS
from tests.simulation.lost_runs import LostRuns
from tests.simulation.machine import seed_of
from tests.simulation.makini.connection import Connection
from tests.simulation.makini.personality import LATEST_LIBERTIES_FROM
from tests.simulation.net import Fault, Request
from tests.simulation.operators import Operators
from tests.simulation.pairs import LostPairs
from tests.simulation.patience import Patience
from tests.simulation.rare import RARE, RARE_KINDS, Rare
from tests.simulation.renewed import MEANWHILE
from tests.simulation.second_acts import SECOND_ACTS, SecondActs
from tests.simulation.shifting import Shifting
from tests.simulation.sickness import Sickness
from tests.simulation.sickness import draw as draw_sickness
from tests.simulation.storms import (
    ONE_CUSTOMER,
    STORM,
    has_one_customer,
    one_customer,
    storm,
)
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
OTHER_KINDS = (
    "webhooks", "crash", "forbidden", "makini", "lost", "storm", ONE_CUSTOMER, ENDING, MEANWHILE,
    DOUBTED, "deadline", "flood", "none", *SECOND_ACTS, *LATER_ACTS, *ARRANGED, *NEWEST, *LATEST,
)  # fmt: skip
"""Those that are drawn otherwise, that every universe has, or that are only asked for."""
ALL_KINDS = frozenset({*KINDS, *MORE_KINDS, *RARE_KINDS, *UNUSUAL_KINDS, *OTHER_KINDS})


MAKINI_AWAY = 0.3
"""The share of universes in which Makini as a whole goes away."""
RUNS_LOST = 0.25
"""The share of those in which workers lose runs."""
FLOOD_FROM, FLOOD_CHANCE = 70_000, 0.1
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
        if has_one_customer(universe.plan):
            self.kinds.add(ONE_CUSTOMER)
        acts = Random(seed_of(universe.plan.seed, "second acts"))
        self.kinds |= SecondActs.drawn(universe.plan.seed, acts)
        floods = Random(seed_of(universe.plan.seed, "floods"))
        if universe.plan.seed >= FLOOD_FROM and floods.random() < FLOOD_CHANCE:
            self.kinds.add("flood")
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
        self.caps, self.endless = Caps(universe), Endless(universe)
        self.episodes = Episodes(universe, self.rng, self._on)
        self.over = self.episodes.over
        self.patience = Patience(universe)
        universe.network.decide = self.decide
        universe.network.came = self.pairs.came
        self.interrupted = Interrupted(universe, self.rng, self._on, self._pause)
        self.at_makini = AtMakini(universe, self.rng, self._on, self._pause)
        self.removed = self.at_makini.removed
        universe.face.mutilate_list = self.at_makini.mutilate
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
            yield self.at_makini.logins()
            yield self.customers.live()
        if "storm" in self.kinds:
            yield storm(self.universe, Random(seed_of(self.universe.plan.seed, "storm")))
        if ONE_CUSTOMER in self.kinds:
            theirs = Random(seed_of(self.universe.plan.seed, ONE_CUSTOMER))
            yield one_customer(self.universe, theirs)
        if "commits" in self.kinds:
            yield self.interrupted.commits()
        if "stops" in self.kinds:
            yield self.interrupted.stops()
        if "shift" in self.kinds:
            self.shifting.fill()
        if self.kinds & {"tokens", "pairs"}:
            yield self.at_makini.tokens()
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
            yield self.at_makini.systems()
        if "list" in self.kinds:
            yield self.at_makini.lists()
        if "makini" in self.kinds:
            yield self.episodes.of_makini()
        if self.universe.personality.forbids_list:
            yield self.episodes.of_list()
        if "forged" in self.kinds:
            yield self._forgeries()
        if "clock" in self.kinds:
            yield self.interrupted.clocks()
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
            yield self.interrupted.statements()
        if "anew" in self.kinds:
            yield self.at_makini.anew()
        if "deadline" in self.kinds:
            chance = Random(seed_of(self.universe.plan.seed, "deadline"))
            yield Deadline(self.universe, chance).live()
        yield from self.rare.start(self.kinds)
        yield from self.unusual.start(self.kinds)

    def end(self) -> None:
        """It is to be calm: everything works, except for logins that nobody renewed."""
        self.episodes.end()
        self.at_makini.cut_list = None
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
        self.endless.called(request)
        return fault

    def _drawn(self, request: Request) -> Fault | None:
        if self.sick is not None and self.sick.matches(request):
            return self.sick.fault
        if (fault := self.episodes.fault_of(request)) is not None:
            return fault
        if request.path == "/link/token":
            self.interrupted.hit_refresh(request)
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
